// One call over many tensors: norms, and updates in place. Nothing here is recorded for a backward pass.

#include "shim.h"

#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_zero.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>
#include <cmath>

namespace {

// Elements whose squares are summed in f32 at one time: few enough that the sum is good to seven digits, enough that
// the call per block does not count.
constexpr int64_t kBlock = 1 << 16;

}  // namespace

extern "C" {

// L2 norm of each tensor, on the host; one device synchronisation. `in_f64` sums in f64 throughout; else CPU tensors
// are summed in f32 by blocks and in f64 over blocks.
char* reins_foreach_norm(at::Tensor* const* tensors, int64_t count, bool in_f64, double* norms) {
  return reins::guard([&] {
    c10::AutoGradMode no_grad(false);
    std::vector<at::Tensor> parts;
    std::vector<int64_t> owners;
    for (int64_t i = 0; i < count; ++i) {
      const at::Tensor& tensor = *tensors[i];
      norms[i] = 0.0;
      if (tensor.numel() == 0) {
        continue;
      }
      if (in_f64 || !tensor.is_cpu() || !tensor.is_contiguous() || tensor.numel() <= kBlock) {
        parts.push_back(tensor);
      } else {
        for (auto& part : tensor.view({-1}).split(kBlock)) {
          parts.push_back(std::move(part));
        }
      }
      owners.resize(parts.size(), i);
    }
    if (parts.empty()) {
      return;
    }
    auto kind = in_f64 ? std::optional<at::ScalarType>(at::kDouble) : std::nullopt;
    auto results = at::_foreach_norm(parts, 2, kind);
    auto host = at::stack(results).to(at::kCPU, at::kDouble);
    const double* values = host.const_data_ptr<double>();
    for (size_t i = 0; i < owners.size(); ++i) {
      norms[owners[i]] += values[i] * values[i];
    }
    for (int64_t i = 0; i < count; ++i) {
      norms[i] = std::sqrt(norms[i]);
    }
  });
}

char* reins_foreach_scale(at::Tensor* const* tensors, int64_t count, double factor) {
  return reins::guard([&] {
    c10::AutoGradMode no_grad(false);
    at::_foreach_mul_(reins::tensors(tensors, count), factor);
  });
}

char* reins_foreach_zero(at::Tensor* const* tensors, int64_t count) {
  return reins::guard([&] {
    c10::AutoGradMode no_grad(false);
    at::_foreach_zero_(reins::tensors(tensors, count));
  });
}

char* reins_foreach_copy(at::Tensor* const* targets, at::Tensor* const* sources, int64_t count) {
  return reins::guard([&] {
    c10::AutoGradMode no_grad(false);
    at::_foreach_copy_(reins::tensors(targets, count), reins::tensors(sources, count));
  });
}

char* reins_foreach_lerp(at::Tensor* const* targets, at::Tensor* const* sources, int64_t count, double weight) {
  return reins::guard([&] {
    c10::AutoGradMode no_grad(false);
    at::_foreach_lerp_(reins::tensors(targets, count), reins::tensors(sources, count), weight);
  });
}

}  // extern "C"
