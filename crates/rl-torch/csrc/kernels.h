// The kernels as their callers see them: one table of functions per instruction set, chosen once per process.
//
// Every function works on plain f32 rows and on a range of the work, so that a caller splits it over threads as it
// likes. No result depends on the split. Callers have checked shapes; nothing here does.
#pragma once

#include <cstdint>

namespace reins {

struct Kernels {
  const char* name;
  // Output features that one step of `linear` makes together; a split at multiples of it costs nothing.
  int64_t linear_step;
  // Rows up to which `linear` beats libtorch's matrix product or equals it.
  int64_t linear_most_rows;

  // y[r, o] = bias[o] + sum_k x[r, k] w[o, k] for o in begin..end. x [rows, in], w [out, in], y [rows, out]; bias [out]
  // or null. The summation order of an output depends on `in` alone.
  void (*linear)(const float* x, int64_t rows, int64_t in, const float* w, const float* bias, float* y, int64_t out,
                 int64_t begin, int64_t end);

  // y = x * inverse_rms * w per row; inverse_rms [rows] is written when it is not null.
  void (*rms_norm)(const float* x, const float* w, float eps, float* y, float* inverse_rms, int64_t rows, int64_t hidden);
  // grad_x [rows, hidden] is written; grad_w [hidden] is added to. Either may be null.
  void (*rms_norm_backward)(const float* grad_y, const float* x, const float* w, const float* inverse_rms, float* grad_x,
                            float* grad_w, int64_t rows, int64_t hidden);

  // y = silu(gate) * up over `count` numbers.
  void (*swiglu)(const float* gate, const float* up, float* y, int64_t count);
  void (*swiglu_backward)(const float* grad_y, const float* gate, const float* up, float* grad_gate, float* grad_up,
                          int64_t count);

  // x, y [tokens, heads, head_dim]; cos, sin [tokens, head_dim]. `inverse` applies the transpose: the backward pass.
  void (*rotary)(const float* x, const float* cos, const float* sin, float* y, int64_t tokens, int64_t heads,
                 int64_t head_dim, bool inverse);

  // Softmax attention of `heads` queries that share keys and values: q, out [heads, head_dim]; keys, values
  // [count, head_dim]; scores is scratch of [heads, count rounded up to 16]. head_dim is a multiple of 16.
  void (*attention)(const float* q, const float* keys, const float* values, float* out, float* scores, int64_t heads,
                    int64_t count, int64_t head_dim, float scale);
  // out[i] = exp(x[i]); here for its test.
  void (*exp)(const float* x, float* out, int64_t count);
};

extern const Kernels portable_kernels;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define REINS_X86_KERNELS 1
extern const Kernels avx2_kernels;
extern const Kernels avx512_kernels;
#endif

// The table for this machine; throws when REINS_KERNELS names one that it does not have.
const Kernels& kernels();

}  // namespace reins
