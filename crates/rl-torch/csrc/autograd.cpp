// Gradients with given upstream gradients, and graph nodes whose backward pass is a Rust closure.

#include "shim.h"

#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/variable.h>
#include <stdexcept>
#include <string>

namespace {

using torch::autograd::Node;
using torch::autograd::variable_list;

// Calls a Rust closure: `grads` [num_outputs of the forward pass] in, `input_grads` [num_inputs] out; null is undefined.
using CallBackward = char* (*)(void* closure, at::Tensor* const* grads, int64_t num_grads,
                               at::Tensor** input_grads, int64_t num_inputs);
using DropBackward = void (*)(void* closure);

struct RustBackward : public Node {
  RustBackward(void* closure, CallBackward call, DropBackward drop) : closure_(closure), call_(call), drop_(drop) {}

  ~RustBackward() override { release_variables(); }

  std::string name() const override { return "RustBackward"; }

  // The engine calls this after a backward pass that does not keep the graph: what the closure holds is freed early.
  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closure_ != nullptr) {
      drop_(closure_);
      closure_ = nullptr;
    }
  }

  variable_list apply(variable_list&& grads) override {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closure_ == nullptr) {
      throw std::runtime_error("a second backward pass through a graph that the first one freed");
    }
    std::vector<at::Tensor*> pointers;
    for (auto& grad : grads) {
      pointers.push_back(grad.defined() ? &grad : nullptr);
    }
    std::vector<at::Tensor*> results(num_outputs(), nullptr);
    char* failure = call_(closure_, pointers.data(), static_cast<int64_t>(pointers.size()), results.data(),
                          static_cast<int64_t>(results.size()));
    variable_list input_grads(results.size());
    for (size_t i = 0; i < results.size(); ++i) {
      if (results[i] != nullptr) {
        input_grads[i] = std::move(*results[i]);
        delete results[i];
      }
    }
    if (failure != nullptr) {
      std::string message(failure);
      free(failure);
      throw std::runtime_error(message);
    }
    return input_grads;
  }

 private:
  void* closure_;
  CallBackward call_;
  DropBackward drop_;
};

}  // namespace

extern "C" {

void reins_free_text(char* text) { free(text); }

bool reins_grad_enabled() { return c10::GradMode::is_enabled(); }

// `outputs` become results of `inputs` whose gradients `closure` computes. Takes the closure over in every case.
char* reins_with_backward(at::Tensor* const* inputs, int64_t num_inputs, at::Tensor* const* outputs,
                          int64_t num_outputs, void* closure, CallBackward call, DropBackward drop,
                          at::Tensor** results) {
  return reins::guard([&] {
    auto node = std::shared_ptr<RustBackward>(new RustBackward(closure, call, drop), torch::autograd::deleteNode);
    auto sources = reins::tensors(inputs, num_inputs);
    node->set_next_edges(torch::autograd::collect_next_edges(sources));
    for (int64_t i = 0; i < num_outputs; ++i) {
      at::Tensor output = outputs[i]->variable_data();
      torch::autograd::set_history(output, node);
      results[i] = reins::give(std::move(output));
    }
  });
}

// Adds gradients to the leaves; `grad_outputs[i]` is the upstream gradient of `outputs[i]`.
char* reins_backward(at::Tensor* const* outputs, at::Tensor* const* grad_outputs, int64_t num_outputs,
                     bool retain_graph) {
  return reins::guard([&] {
    torch::autograd::backward(reins::tensors(outputs, num_outputs), reins::tensors(grad_outputs, num_outputs),
                              retain_graph);
  });
}

// Gradients of chosen inputs; nothing is added to any leaf. An input that the outputs do not depend on gives null.
char* reins_grad(at::Tensor* const* outputs, at::Tensor* const* grad_outputs, int64_t num_outputs,
                 at::Tensor* const* inputs, int64_t num_inputs, bool retain_graph, at::Tensor** results) {
  return reins::guard([&] {
    auto grads = torch::autograd::grad(reins::tensors(outputs, num_outputs), reins::tensors(inputs, num_inputs),
                                       reins::tensors(grad_outputs, num_outputs), retain_graph,
                                       /*create_graph=*/false, /*allow_unused=*/true);
    for (int64_t i = 0; i < num_inputs; ++i) {
      results[i] = reins::give(std::move(grads[static_cast<size_t>(i)]));
    }
  });
}

// The gradient of `leaf` that a running backward pass may add to itself, made of zeros where there is none. Null outside
// of a backward pass, in one that gives gradients out instead of adding them to leaves, and for other tensors.
char* reins_leaf_grad(const at::Tensor* leaf, at::Tensor** result) {
  return reins::guard([&] {
    *result = nullptr;
    const auto* chosen = torch::autograd::get_current_graph_task_exec_info();
    if (chosen == nullptr || !chosen->empty() || !leaf->is_leaf() || !leaf->requires_grad()) {
      return;
    }
    at::Tensor& grad = leaf->mutable_grad();
    if (!grad.defined()) {
      at::NoGradGuard no_grad;
      grad = at::zeros_like(*leaf);
    }
    *result = reins::give(grad);
  });
}

}  // extern "C"
