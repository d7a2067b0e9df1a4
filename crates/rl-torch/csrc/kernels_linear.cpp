// Projections of f32 rows on the CPU. Recorded, half-precision or CUDA ones go to libtorch.

#include "kernels_check.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>

namespace {

using reins::Kernels;

// Multiply-adds that one thread does in the time that waking another takes.
constexpr int64_t kSmallWork = 200000;

void check(const at::Tensor& xs, const at::Tensor& weight, const at::Tensor& bias) {
  TORCH_CHECK(xs.dim() == 2, "linear: xs has shape ", xs.sizes(), "; [rows, in] is needed");
  TORCH_CHECK(weight.dim() == 2 && weight.size(1) == xs.size(1), "linear: weight has shape ", weight.sizes(),
              "; [out, in] with in = ", xs.size(1), " is needed");
  TORCH_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0)), "linear: bias has shape ",
              bias.defined() ? bias.sizes() : at::IntArrayRef(), "; [out] with out = ", weight.size(0), " is needed");
}

bool suits_kernel(const at::Tensor& xs, const at::Tensor& weight, const at::Tensor& bias) {
  return reins::is_plain(xs) && reins::is_plain(weight) && (!bias.defined() || reins::is_plain(bias)) &&
         weight.is_contiguous() && xs.size(0) <= reins::kernels().linear_most_rows && !reins::is_recorded({&xs, &weight, &bias});
}

}  // namespace

extern "C" {

// results[i] = xs weights[i]^T + biases[i]; a null bias is none. One parallel region for all that suit the kernel, if
// `own_kernel`.
char* reins_linears(const at::Tensor* xs, at::Tensor* const* weights, at::Tensor* const* biases, int64_t count,
                    bool own_kernel, at::Tensor** results) {
  return reins::guard([&] {
    const auto all_weights = reins::tensors(weights, count), all_biases = reins::tensors(biases, count);
    const auto n = static_cast<size_t>(count);
    bool suits = own_kernel;
    for (size_t i = 0; i < n; ++i) {
      check(*xs, all_weights[i], all_biases[i]);
      suits = suits && suits_kernel(*xs, all_weights[i], all_biases[i]);
    }
    std::vector<at::Tensor> outputs(n);
    if (!suits) {
      for (size_t i = 0; i < n; ++i) {
        outputs[i] = at::linear(*xs, all_weights[i], all_biases[i].defined() ? c10::optional<at::Tensor>(all_biases[i])
                                                                             : c10::nullopt);
      }
    } else {
      const Kernels& kernels = reins::kernels();
      const at::Tensor x = xs->contiguous();
      const int64_t rows = x.size(0), in = x.size(1), step = kernels.linear_step;
      const float* from = x.const_data_ptr<float>();
      struct Job {
        const float* weight;
        const float* bias;
        float* out;
        int64_t outputs;
        int64_t first_step;  // in the sequence of all jobs' steps
      };
      std::vector<Job> jobs;
      std::vector<at::Tensor> biases_kept;  // contiguous copies live until the work is done
      int64_t steps = 0;
      for (size_t i = 0; i < n; ++i) {
        const int64_t out = all_weights[i].size(0);
        outputs[i] = at::empty({rows, out}, x.options());
        const float* bias = nullptr;
        if (all_biases[i].defined()) {
          biases_kept.push_back(all_biases[i].contiguous());
          bias = biases_kept.back().const_data_ptr<float>();
        }
        jobs.push_back({all_weights[i].const_data_ptr<float>(), bias, outputs[i].mutable_data_ptr<float>(), out, steps});
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
