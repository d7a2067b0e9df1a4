// Projections of f32 rows on the CPU, with their backward pass. Half-precision or CUDA ones go to libtorch.

#include "kernels_check.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>

namespace {

using reins::Kernels;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Multiply-adds that one thread does in the time that waking another takes.
constexpr int64_t kSmallWork = 200000;

void check(const at::Tensor& xs, const at::Tensor& weight, const at::Tensor& bias) {
  TORCH_CHECK(xs.dim() == 2, "linear: xs has shape ", xs.sizes(), "; [rows, in] is needed");
  TORCH_CHECK(weight.dim() == 2 && weight.size(1) == xs.size(1), "linear: weight has shape ", weight.sizes(),
              "; [out, in] with in = ", xs.size(1), " is needed");
  TORCH_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0)), "linear: bias has shape ",
              bias.defined() ? bias.sizes() : at::IntArrayRef(), "; [out] with out = ", weight.size(0), " is needed");
}

// Whatever is recorded: a pass without gradients gives the bits of one with them.
bool suits_kernel(const at::Tensor& xs, const at::Tensor& weight, const at::Tensor& bias) {
  return reins::is_plain(xs) && reins::is_plain(weight) && (!bias.defined() || reins::is_plain(bias)) &&
         weight.is_contiguous() && xs.size(0) <= reins::kernels().linear_most_rows;
}

// xs weights[i]^T + biases[i] for contiguous xs and weights of plain f32.
std::vector<at::Tensor> products(const at::Tensor& xs, at::TensorList weights, at::TensorList biases) {
  const Kernels& kernels = reins::kernels();
  const int64_t rows = xs.size(0), in = xs.size(1), step = kernels.linear_step;
  const float* from = xs.const_data_ptr<float>();
  struct Job {
    const float* weight;
    const float* bias;
    float* out;
    int64_t outputs;
    int64_t first_step;  // in the sequence of all jobs' steps
  };
  std::vector<Job> jobs;
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> biases_kept;  // contiguous copies live until the work is done
  int64_t steps = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const int64_t out = weights[i].size(0);
    outputs.push_back(at::empty({rows, out}, xs.options()));
    const float* bias = nullptr;
    if (biases[i].defined()) {
      biases_kept.push_back(biases[i].contiguous());
      bias = biases_kept.back().const_data_ptr<float>();
    }
    jobs.push_back({weights[i].const_data_ptr<float>(), bias, outputs[i].mutable_data_ptr<float>(), out, steps});
    steps += (out + step - 1) / step;
  }
  const int64_t work_per_step = std::max<int64_t>(1, rows * in * step);
  const auto body = [&](int64_t begin, int64_t end) {
    for (const Job& job : jobs) {
      const int64_t first = std::max<int64_t>(0, begin - job.first_step) * step;
      const int64_t last = std::min(job.outputs, (end - job.first_step) * step);
      if (first < last) {
        kernels.linear(from, rows, in, job.weight, job.bias, job.out, job.outputs, first, last);
      }
    }
  };
  if (rows != 0) {
    at::parallel_for(0, steps, std::max<int64_t>(1, kSmallWork / work_per_step), body);
  }
  return outputs;
}

// Adds left right to the gradient that `leaf` has already, if the running backward pass adds to leaves at all.
bool add_to_leaf(const at::Tensor& leaf, const at::Tensor& left, const at::Tensor& right) {
  const auto* chosen = torch::autograd::get_current_graph_task_exec_info();
  if (chosen == nullptr || !chosen->empty() || !leaf.is_leaf()) {
    return false;
  }
  at::Tensor& grad = leaf.mutable_grad();
  if (!grad.defined() || !reins::is_plain(grad) || !grad.is_contiguous()) {
    return false;  // the first gradient becomes the leaf's without a copy
  }
  grad.addmm_(left, right);
  return true;
}

struct Linears : public torch::autograd::Function<Linears> {
  // `inputs` is xs, then a weight for each output, then the biases; `bias_places` says where each output's is, 0: none.
  static variable_list forward(AutogradContext* context, at::TensorList inputs, std::vector<int64_t> bias_places) {
    const size_t count = bias_places.size();
    const at::Tensor xs = inputs[0].contiguous();
    const at::TensorList weights = inputs.slice(1, count);
    variable_list kept = {xs}, biases;
    kept.insert(kept.end(), weights.begin(), weights.end());
    for (const int64_t place : bias_places) {
      biases.push_back(place == 0 ? at::Tensor() : inputs[static_cast<size_t>(place)]);
    }
    context->save_for_backward(kept);
    context->saved_data["bias_places"] = bias_places;
    context->saved_data["num_inputs"] = static_cast<int64_t>(inputs.size());
    context->set_materialize_grads(false);
    return products(xs, weights, biases);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!c10::GradMode::is_enabled(), "linear has no second derivative");
    const auto saved = context->get_saved_variables();
    const at::Tensor& xs = saved[0];
    const auto bias_places = context->saved_data["bias_places"].toIntVector();
    // One for each input, and one for the places, which have none.
    variable_list results(static_cast<size_t>(context->saved_data["num_inputs"].toInt()) + 1);
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined()) {
        continue;
      }
      const at::Tensor& weight = saved[1 + i];
      if (context->needs_input_grad(0)) {
        if (results[0].defined()) {
          results[0].addmm_(grads[i], weight);
        } else {
          results[0] = grads[i].mm(weight);
        }
      }
      if (context->needs_input_grad(1 + i) && !add_to_leaf(weight, grads[i].t(), xs)) {
        results[1 + i] = grads[i].t().mm(xs);
      }
      const auto place = static_cast<size_t>(bias_places[i]);
      if (place != 0 && context->needs_input_grad(place)) {
        results[place] = grads[i].sum(0);
      }
    }
    return results;
  }
};

}  // namespace

extern "C" {

// results[i] = xs weights[i]^T + biases[i]; a null bias is none. One parallel region for all that suit the kernel.
char* reins_linears(const at::Tensor* xs, at::Tensor* const* weights, at::Tensor* const* biases, int64_t count,
                    at::Tensor** results) {
  return reins::guard([&] {
    const auto all_weights = reins::tensors(weights, count), all_biases = reins::tensors(biases, count);
    const auto n = static_cast<size_t>(count);
    bool suits = n != 0, recorded = reins::is_recorded({xs});
    for (size_t i = 0; i < n; ++i) {
      check(*xs, all_weights[i], all_biases[i]);
      suits = suits && suits_kernel(*xs, all_weights[i], all_biases[i]);
      recorded = recorded || reins::is_recorded({&all_weights[i], &all_biases[i]});
    }
    std::vector<at::Tensor> outputs(n);
    if (!suits) {
      for (size_t i = 0; i < n; ++i) {
        outputs[i] = at::linear(*xs, all_weights[i], all_biases[i].defined() ? c10::optional<at::Tensor>(all_biases[i])
                                                                             : c10::nullopt);
      }
    } else if (recorded) {
      std::vector<at::Tensor> inputs = {*xs};
      inputs.insert(inputs.end(), all_weights.begin(), all_weights.end());
      std::vector<int64_t> bias_places;
      for (const at::Tensor& bias : all_biases) {
        bias_places.push_back(bias.defined() ? static_cast<int64_t>(inputs.size()) : 0);
        if (bias.defined()) {
          inputs.push_back(bias);
        }
      }
      outputs = Linears::apply(at::TensorList(inputs), bias_places);
    } else {
      outputs = products(xs->contiguous(), all_weights, all_biases);
    }
    for (size_t i = 0; i < n; ++i) {
      results[i] = reins::give(std::move(outputs[i]));
    }
  });
}

// Rows up to which the kernel serves a projection.
char* reins_linear_most_rows(int64_t* result) {
  return reins::guard([&] { *result = reins::kernels().linear_most_rows; });
}

// The instruction set that this machine's kernels use; a string that lives as long as the process.
char* reins_kernels_name(const char** result) {
  return reins::guard([&] { *result = reins::kernels().name; });
}

}  // extern "C"
