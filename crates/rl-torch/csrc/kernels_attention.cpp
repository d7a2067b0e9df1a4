// Attention of one new token per slot over the filled part of its cache.

#include "kernels_check.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <cmath>

namespace {

// What slot `i` sees: tokens first..first + count.
struct Span {
  int64_t first;
  int64_t count;
};

at::Tensor kernel(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values,
                  const std::vector<Span>& spans) {
  const int64_t slots = q.size(0), heads = q.size(1), head_dim = q.size(2);
  const int64_t kv_heads = keys.size(1), shared = heads / kv_heads;
  at::Tensor out = at::empty_like(q);
  const float *from = q.const_data_ptr<float>(), *k = keys.const_data_ptr<float>();
  const float* v = values.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  const int64_t key_slot = keys.stride(0), key_head = keys.stride(1);
  const int64_t value_slot = values.stride(0), value_head = values.stride(1);
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)));
  int64_t longest = 0, total = 0;
  std::vector<int64_t> before;  // tokens of the slots before each
  for (const Span& span : spans) {
    longest = std::max(longest, span.count);
    before.push_back(total);
    total += span.count;
  }
  const auto& kernels = reins::kernels();
  const int64_t scratch = shared * ((longest + 15) / 16 * 16);
  // A part for each thread that pays, of about equal numbers of tokens: lengths differ.
  const int64_t paying = 2 * head_dim * kv_heads * total / reins::kGrain;
  const int64_t parts = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), paying));
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scores(static_cast<size_t>(scratch));
    for (int64_t task = 0; task < slots * kv_heads; ++task) {
      const int64_t slot = task / kv_heads, kv_head = task % kv_heads;
      const Span& span = spans[static_cast<size_t>(slot)];
      const int64_t part = (before[static_cast<size_t>(slot)] * kv_heads + kv_head * span.count) * parts / (total * kv_heads);
      if (part < begin || end <= part) {
        continue;
      }
      const int64_t query = (slot * heads + kv_head * shared) * head_dim;
      kernels.attention(from + query, k + slot * key_slot + kv_head * key_head + span.first * head_dim,
                        v + slot * value_slot + kv_head * value_head + span.first * head_dim, to + query, scores.data(),
                        shared, span.count, head_dim, scale);
    }
  });
  return out;
}

at::Tensor composition(const at::Tensor& q, const at::Tensor& keys, const at::Tensor& values,
                       const std::vector<Span>& spans) {
  const int64_t heads = q.size(1), head_dim = q.size(2), kv_heads = keys.size(1);
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  std::vector<at::Tensor> rows;
  for (size_t i = 0; i < spans.size(); ++i) {
    const auto slot = static_cast<int64_t>(i);
    const at::Tensor key = keys.select(0, slot).narrow(1, spans[i].first, spans[i].count);
    const at::Tensor value = values.select(0, slot).narrow(1, spans[i].first, spans[i].count);
    const at::Tensor query = q.select(0, slot).reshape({kv_heads, heads / kv_heads, head_dim});
    at::Tensor scores = at::matmul(query, key.transpose(1, 2)) * scale;
    scores = at::softmax(scores, -1, scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
    rows.push_back(at::matmul(scores.to(q.scalar_type()), value).reshape({heads, head_dim}));
  }
  return rows.empty() ? at::empty_like(q) : at::stack(rows, 0);
}

bool rows_are_whole(const at::Tensor& cache) {
  return cache.stride(3) == 1 && cache.stride(2) == cache.size(3);
}

}  // namespace

extern "C" {

// `lengths[i]` tokens of slot i are filled; `window` of them, the last, are seen, or all when it is 0.
char* reins_cached_attention(const at::Tensor* q, const at::Tensor* keys, const at::Tensor* values,
                             const int64_t* lengths, int64_t num_lengths, int64_t window, at::Tensor** result) {
  return reins::guard([&] {
    TORCH_CHECK(q->dim() == 3 && q->is_floating_point(), "cached_attention: q is ", q->scalar_type(), " ", q->sizes(),
                "; floating-point [slots, heads, head_dim] is needed");
    TORCH_CHECK(keys->dim() == 4 && keys->sizes() == values->sizes(), "cached_attention: keys have shape ",
                keys->sizes(), " and values ", values->sizes(), "; both [slots, kv_heads, capacity, head_dim]");
    TORCH_CHECK(keys->scalar_type() == q->scalar_type() && values->scalar_type() == q->scalar_type() &&
                    keys->device() == q->device() && values->device() == q->device(),
                "cached_attention: q, keys and values must share one kind and device");
    const int64_t slots = q->size(0), heads = q->size(1), head_dim = q->size(2);
    const int64_t kv_heads = keys->size(1), capacity = keys->size(2);
    TORCH_CHECK(slots <= keys->size(0), "cached_attention: ", slots, " queries for ", keys->size(0), " slots");
    TORCH_CHECK(0 < head_dim && keys->size(3) == head_dim, "cached_attention: head_dim is ", head_dim,
                " in q and ", keys->size(3), " in the cache; both must be equal and positive");
    TORCH_CHECK(0 < kv_heads && heads % kv_heads == 0, "cached_attention: ", heads, " heads over ", kv_heads,
                " key/value heads; a multiple is needed");
    TORCH_CHECK(num_lengths == slots, "cached_attention: ", num_lengths, " lengths for ", slots, " slots");
    TORCH_CHECK(0 <= window, "cached_attention: window is ", window, "; it must be positive");
    std::vector<Span> spans;
    for (int64_t i = 0; i < slots; ++i) {
      TORCH_CHECK(0 < lengths[i] && lengths[i] <= capacity, "cached_attention: slot ", i, " has length ", lengths[i],
                  "; 1 to ", capacity, " (the capacity) is needed");
      const int64_t count = window == 0 ? lengths[i] : std::min(window, lengths[i]);
      spans.push_back({lengths[i] - count, count});
    }
    const bool plain = reins::is_plain(*q) && reins::is_plain(*keys) && reins::is_plain(*values);
    const bool suits = plain && rows_are_whole(*keys) && rows_are_whole(*values) && head_dim % 16 == 0;
    c10::NoGradGuard no_grad;
    *result = reins::give(suits ? kernel(q->contiguous(), *keys, *values, spans)
                                : composition(*q, *keys, *values, spans));
  });
}

// The vectorised exponential of the kernels, for its test; xs f32 on the CPU.
char* reins_kernel_exp(const at::Tensor* xs, at::Tensor** result) {
  return reins::guard([&] {
    TORCH_CHECK(reins::is_plain(*xs), "exp: f32 on the CPU is needed");
    const at::Tensor x = xs->contiguous();
    at::Tensor y = at::empty_like(x);
    reins::kernels().exp(x.const_data_ptr<float>(), y.mutable_data_ptr<float>(), x.numel());
    *result = reins::give(std::move(y));
  });
}

}  // extern "C"
