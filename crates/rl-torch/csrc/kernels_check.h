// What the kernels' torch side shares: when plain rows of f32 may be read, and how work is split over threads.
#pragma once

#include "kernels.h"
#include "shim.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

namespace reins {

// Plain f32 numbers on the CPU: what the kernels read. `contiguous()` is the caller's job.
inline bool is_plain(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat && tensor.layout() == at::kStrided &&
         !tensor.is_conj() && !tensor.is_neg();
}

// Whether an operation on these tensors would be recorded for the backward pass.
inline bool is_recorded(std::initializer_list<const at::Tensor*> tensors) {
  if (!c10::GradMode::is_enabled()) {
    return false;
  }
  for (const at::Tensor* tensor : tensors) {
    if (tensor->defined() && tensor->requires_grad()) {
      return true;
    }
  }
  return false;
}

// Numbers that one thread passes over in the time that waking another takes.
constexpr int64_t kGrain = 32768;

// Runs `body(begin, end)` over parts of 0..count, each item worth `numbers` numbers; small work stays on this thread.
template <typename Body>
void split(int64_t count, int64_t numbers, const Body& body) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, numbers));
  at::parallel_for(0, count, grain, body);
}

}  // namespace reins
