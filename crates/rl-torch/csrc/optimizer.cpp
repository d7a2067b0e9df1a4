// The fused AdamW update over lists of tensors.

#include "shim.h"

#include <ATen/ops/_fused_adamw.h>
#include <c10/core/GradMode.h>

extern "C" {

// Lists of `count` tensors, pairwise of one shape, kind and device, dense and contiguous; `step` [] f32 on their device.
char* reins_fused_adamw(at::Tensor* const* parameters, at::Tensor* const* grads, at::Tensor* const* exp_avgs,
                        at::Tensor* const* exp_avg_sqs, int64_t count, const at::Tensor* step, double learning_rate,
                        double beta1, double beta2, double weight_decay, double eps) {
  return reins::guard([&] {
    c10::AutoGradMode no_grad(false);
    std::vector<at::Tensor> steps(static_cast<size_t>(count), *step);
    at::_fused_adamw_(reins::tensors(parameters, count), reins::tensors(grads, count),
                      reins::tensors(exp_avgs, count), reins::tensors(exp_avg_sqs, count), {}, steps, learning_rate,
                      beta1, beta2, weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false);
  });
}

}  // extern "C"
