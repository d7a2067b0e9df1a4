// Root mean square normalisation with its backward pass.

#include "kernels_check.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows whose share of the weight's gradient is summed together: fixed, so that the number of threads changes nothing.
constexpr int64_t kRowsPerSum = 64;

// Writes the inverse root of each row too, unless `inverse_rms` is undefined. All contiguous f32.
at::Tensor forward(const at::Tensor& xs, const at::Tensor& weight, double eps, const at::Tensor& inverse_rms) {
  const int64_t rows = xs.size(0), hidden = xs.size(1);
  at::Tensor ys = at::empty_like(xs);
  const float *x = xs.const_data_ptr<float>(), *w = weight.const_data_ptr<float>();
  float* y = ys.mutable_data_ptr<float>();
  float* inverse = inverse_rms.defined() ? inverse_rms.mutable_data_ptr<float>() : nullptr;
  const auto& kernels = reins::kernels();
  reins::split(rows, hidden, [&](int64_t begin, int64_t end) {
    kernels.rms_norm(x + begin * hidden, w, static_cast<float>(eps), y + begin * hidden,
                     inverse == nullptr ? nullptr : inverse + begin, end - begin, hidden);
  });
  return ys;
}

struct RmsNorm : public torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& xs, const at::Tensor& weight, double eps) {
    at::Tensor inverse_rms = at::empty({xs.size(0)}, xs.options());
    at::Tensor ys = ::forward(xs, weight, eps, inverse_rms);
    context->save_for_backward({xs, weight, inverse_rms});
    return ys;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!c10::GradMode::is_enabled(), "rms_norm has no second derivative");
    const auto saved = context->get_saved_variables();
    const at::Tensor &xs = saved[0], &weight = saved[1], &inverse_rms = saved[2];
    const at::Tensor grad_ys = grads[0].contiguous();
    const int64_t rows = xs.size(0), hidden = xs.size(1), parts = (rows + kRowsPerSum - 1) / kRowsPerSum;
    at::Tensor grad_xs = context->needs_input_grad(0) ? at::empty_like(xs) : at::Tensor();
    at::Tensor sums = context->needs_input_grad(1) ? at::zeros({parts, hidden}, xs.options()) : at::Tensor();
    const float *g = grad_ys.const_data_ptr<float>(), *x = xs.const_data_ptr<float>();
    const float *w = weight.const_data_ptr<float>(), *inverse = inverse_rms.const_data_ptr<float>();
    float* grad_x = grad_xs.defined() ? grad_xs.mutable_data_ptr<float>() : nullptr;
    float* grad_w = sums.defined() ? sums.mutable_data_ptr<float>() : nullptr;
    const auto& kernels = reins::kernels();
    reins::split(parts, kRowsPerSum * hidden, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        const int64_t row = part * kRowsPerSum, count = std::min(kRowsPerSum, rows - row), at = row * hidden;
        kernels.rms_norm_backward(g + at, x + at, w, inverse + row, grad_x == nullptr ? nullptr : grad_x + at,
                                  grad_w == nullptr ? nullptr : grad_w + part * hidden, count, hidden);
      }
    });
    return {grad_xs, sums.defined() ? sums.sum(0) : at::Tensor(), at::Tensor()};
  }
};

// As transformers computes it: the statistic in f32 (f64 stays f64), back to the input's kind before the weight.
at::Tensor composition(const at::Tensor& xs, const at::Tensor& weight, double eps) {
  const auto kind = xs.scalar_type();
  const at::Tensor wide = kind == at::kDouble ? xs : xs.to(at::kFloat);
  const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
  return at::mul(weight, (wide * scale).to(kind));
}

}  // namespace

extern "C" {

char* reins_rms_norm(const at::Tensor* xs, const at::Tensor* weight, double eps, at::Tensor** result) {
  return reins::guard([&] {
    TORCH_CHECK(xs->dim() == 2 && xs->is_floating_point(), "rms_norm: xs is ", xs->scalar_type(), " ", xs->sizes(),
                "; floating-point [rows, hidden] is needed");
    TORCH_CHECK(weight->dim() == 1 && weight->size(0) == xs->size(1), "rms_norm: weight has shape ", weight->sizes(),
                "; [hidden] with hidden = ", xs->size(1), " is needed");
    if (!reins::is_plain(*xs) || !reins::is_plain(*weight)) {
      *result = reins::give(composition(*xs, *weight, eps));
    } else if (reins::is_recorded({xs, weight})) {
      *result = reins::give(RmsNorm::apply(xs->contiguous(), weight->contiguous(), eps));
    } else {
      *result = reins::give(forward(xs->contiguous(), weight->contiguous(), eps, at::Tensor()));
    }
  });
}

}  // extern "C"
