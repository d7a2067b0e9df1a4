// Rotary position embedding in the halves layout, with its backward pass.

#include "kernels_check.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor turn(const at::Tensor& xs, const at::Tensor& cos, const at::Tensor& sin, bool inverse) {
  const int64_t tokens = xs.size(0), heads = xs.size(1), head_dim = xs.size(2), token = heads * head_dim;
  at::Tensor ys = at::empty_like(xs);
  const float *x = xs.const_data_ptr<float>(), *c = cos.const_data_ptr<float>(), *s = sin.const_data_ptr<float>();
  float* y = ys.mutable_data_ptr<float>();
  const auto& kernels = reins::kernels();
  reins::split(tokens, token, [&](int64_t begin, int64_t end) {
    kernels.rotary(x + begin * token, c + begin * head_dim, s + begin * head_dim, y + begin * token, end - begin, heads,
                   head_dim, inverse);
  });
  return ys;
}

struct Rotary : public torch::autograd::Function<Rotary> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& xs, const at::Tensor& cos,
                            const at::Tensor& sin) {
    context->save_for_backward({cos, sin});
    return turn(xs, cos, sin, false);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!c10::GradMode::is_enabled(), "rotary has no second derivative");
    const auto saved = context->get_saved_variables();
    return {turn(grads[0].contiguous(), saved[0], saved[1], true), at::Tensor(), at::Tensor()};
  }
};

at::Tensor composition(const at::Tensor& xs, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t half = xs.size(2) / 2;
  const at::Tensor turned = at::cat({-xs.narrow(2, half, half), xs.narrow(2, 0, half)}, 2);
  return xs * cos + turned * sin;
}

}  // namespace

extern "C" {

char* reins_rotary(const at::Tensor* xs, const at::Tensor* cos, const at::Tensor* sin, at::Tensor** result) {
  return reins::guard([&] {
    TORCH_CHECK(xs->dim() == 3 && xs->size(2) % 2 == 0 && xs->is_floating_point(), "rotary: xs is ", xs->scalar_type(),
                " ", xs->sizes(), "; floating-point [tokens, heads, head_dim] with an even head_dim is needed");
    for (const at::Tensor* table : {cos, sin}) {
      TORCH_CHECK(table->dim() == 3 && table->size(0) == xs->size(0) && table->size(1) == 1 &&
                      table->size(2) == xs->size(2),
                  "rotary: cos or sin has shape ", table->sizes(), "; [tokens, 1, head_dim] = [", xs->size(0), ", 1, ",
                  xs->size(2), "] is needed");
    }
    const bool plain = reins::is_plain(*xs) && reins::is_plain(*cos) && reins::is_plain(*sin);
    if (!plain || reins::is_recorded({cos, sin})) {
      *result = reins::give(composition(*xs, *cos, *sin));
    } else if (reins::is_recorded({xs})) {
      *result = reins::give(Rotary::apply(xs->contiguous(), cos->contiguous(), sin->contiguous()));
    } else {
      *result = reins::give(turn(xs->contiguous(), cos->contiguous(), sin->contiguous(), false));
    }
  });
}

}  // extern "C"
