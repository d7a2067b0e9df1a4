// Attention over sequences laid end to end, by the kernels of CUDA devices. Both have a registered backward pass.

#include "shim.h"

#include <ATen/ops/_efficient_attention_forward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <c10/core/GradMode.h>
#include <optional>

extern "C" {

// q [tokens, heads, head_dim], k and v [keys, kv_heads, head_dim] in bf16 or f16, cu_seqlens and cu_seqlens_of_keys
// [sequences + 1] int32, to [tokens, heads, head_dim]. Causal, a sequence's last token at its last key; `window` counts the tokens that a token sees, itself among them; negative: all.
char* reins_flash_attention(const at::Tensor* q, const at::Tensor* k, const at::Tensor* v,
                            const at::Tensor* cu_seqlens, const at::Tensor* cu_seqlens_of_keys, int64_t max_length,
                            int64_t max_keys, int64_t window, at::Tensor** result) {
  return reins::guard([&] {
    std::optional<c10::SymInt> left;
    std::optional<c10::SymInt> right;
    if (0 < window) {
      left = c10::SymInt(window - 1);
      right = c10::SymInt(0);
    }
    auto outputs = at::_flash_attention_forward_symint(*q, *k, *v, *cu_seqlens, *cu_seqlens_of_keys,
                                                       c10::SymInt(max_length), c10::SymInt(max_keys), /*dropout_p=*/0.0, /*is_causal=*/true,
                                                       /*return_debug_mask=*/false, /*scale=*/std::nullopt, left, right);
    *result = reins::give(std::move(std::get<0>(outputs)));
  });
}

// As above with as many heads in k and v as in q, in f32 too; always the whole past. (The kernel knows a window, but its
// registered backward pass forgets it.)
char* reins_efficient_attention(const at::Tensor* q, const at::Tensor* k, const at::Tensor* v,
                                const at::Tensor* cu_seqlens, const at::Tensor* cu_seqlens_of_keys, int64_t max_length,
                                int64_t max_keys, at::Tensor** result) {
  return reins::guard([&] {
    // From the top left or the bottom right, which is the same where a sequence's keys are its own tokens.
    const int64_t causal = cu_seqlens_of_keys == cu_seqlens ? 1 : 2;
    bool recorded = c10::GradMode::is_enabled() && (q->requires_grad() || k->requires_grad() || v->requires_grad());
    auto outputs = at::_efficient_attention_forward(q->unsqueeze(0), k->unsqueeze(0), v->unsqueeze(0),
                                                    /*bias=*/std::nullopt, *cu_seqlens, *cu_seqlens_of_keys, max_length,
                                                    max_keys, /*dropout_p=*/0.0, causal,
                                                    /*compute_log_sumexp=*/recorded);
    *result = reins::give(std::get<0>(outputs).squeeze(0));
  });
}

}  // extern "C"
