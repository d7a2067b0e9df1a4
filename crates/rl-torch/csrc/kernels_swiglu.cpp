// The gated activation of Llama and Qwen, silu(gate) * up, with its backward pass.

#include "kernels_check.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Parts of the work begin at multiples of this many numbers, a whole number of vectors.
constexpr int64_t kPart = 1024;

template <typename Body>
void over_parts(int64_t count, const Body& body) {
  reins::split((count + kPart - 1) / kPart, 8 * kPart, [&](int64_t begin, int64_t end) {
    body(begin * kPart, std::min(count, end * kPart) - begin * kPart);
  });
}

at::Tensor forward(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor ys = at::empty_like(gate);
  const float *g = gate.const_data_ptr<float>(), *u = up.const_data_ptr<float>();
  float* y = ys.mutable_data_ptr<float>();
  const auto& kernels = reins::kernels();
  over_parts(gate.numel(), [&](int64_t at, int64_t count) { kernels.swiglu(g + at, u + at, y + at, count); });
  return ys;
}

struct Swiglu : public torch::autograd::Function<Swiglu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate, const at::Tensor& up) {
    context->save_for_backward({gate, up});
    return ::forward(gate, up);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!c10::GradMode::is_enabled(), "swiglu has no second derivative");
    const auto saved = context->get_saved_variables();
    const at::Tensor grad_ys = grads[0].contiguous();
    at::Tensor grad_gate = at::empty_like(saved[0]), grad_up = at::empty_like(saved[1]);
    const float *dy = grad_ys.const_data_ptr<float>(), *g = saved[0].const_data_ptr<float>();
    const float* u = saved[1].const_data_ptr<float>();
    float *dg = grad_gate.mutable_data_ptr<float>(), *du = grad_up.mutable_data_ptr<float>();
    const auto& kernels = reins::kernels();
    over_parts(grad_ys.numel(), [&](int64_t at, int64_t count) {
      kernels.swiglu_backward(dy + at, g + at, u + at, dg + at, du + at, count);
    });
    return {grad_gate, grad_up};
  }
};

}  // namespace

extern "C" {

char* reins_swiglu(const at::Tensor* gate, const at::Tensor* up, at::Tensor** result) {
  return reins::guard([&] {
    TORCH_CHECK(gate->sizes() == up->sizes() && gate->scalar_type() == up->scalar_type() && gate->is_floating_point(),
                "swiglu: gate is ", gate->scalar_type(), " ", gate->sizes(), " and up ", up->scalar_type(), " ",
                up->sizes(), "; one floating-point kind and shape is needed");
    if (!reins::is_plain(*gate) || !reins::is_plain(*up)) {
      *result = reins::give(at::silu(*gate) * *up);
    } else if (reins::is_recorded({gate, up})) {
      *result = reins::give(Swiglu::apply(gate->contiguous(), up->contiguous()));
    } else {
      *result = reins::give(forward(gate->contiguous(), up->contiguous()));
    }
  });
}

}  // extern "C"
