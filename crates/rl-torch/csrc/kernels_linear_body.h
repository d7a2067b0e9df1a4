// Products of rows with a weight in the checkpoint's own layout: tiles of dot products.
//
// A tile holds R rows times O outputs in registers and walks once along `in`. The weights of a step come from memory
// once; the other rows of the block find them in the cache. The next step's weights are asked for ahead, spread over
// this step's work, so that memory and arithmetic overlap. Rows are taken in blocks that stay in the second-level cache;
// `in` is cut at fixed places, and the sums of the cuts are added in order, so that the order of an output's sum depends
// on `in` alone.
#pragma once

namespace reins {
namespace {

// Numbers of a weight row that one walk covers.
constexpr int64_t kCut = 2048;
// Numbers of `x` that stay in the second-level cache beside the weights (512 KiB).
constexpr int64_t kBlock = 131072;

// One tile over `count` numbers of each row; adds to y when `add`. `ahead` is the first of `num_ahead` rows of the next
// step's weights to ask for.
template <int R, int O>
REINS_INLINE void linear_tile(const float* x, int64_t in, const float* w, int64_t count, const float* bias, float* y,
                              int64_t out, bool add, const float* ahead, int64_t num_ahead) {
  Vec sum[R][O];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o) {
      sum[r][o] = splat(0.0f);
    }
  }
  int64_t k = 0;
  for (; k + 4 * kLanes <= count; k += 4 * kLanes) {
    for (int64_t row = 0; row < num_ahead; ++row) {
      const float* line = ahead + row * in + k;
      __builtin_prefetch(line, 0, 2);
      __builtin_prefetch(line + 16, 0, 2);
      __builtin_prefetch(line + 32, 0, 2);
      __builtin_prefetch(line + 48, 0, 2);
    }
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const int64_t at = k + part * kLanes;
      Vec weights[O];
#pragma GCC unroll 8
      for (int o = 0; o < O; ++o) {
        weights[o] = load(w + o * in + at);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        Vec row = load(x + r * in + at);
#pragma GCC unroll 8
        for (int o = 0; o < O; ++o) {
          sum[r][o] = multiply_add(row, weights[o], sum[r][o]);
        }
      }
    }
  }
  for (; k < count; k += kLanes) {
    const int64_t rest = count - k < kLanes ? count - k : kLanes;
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o) {
      Vec weights = load_some(w + o * in + k, rest);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        sum[r][o] = multiply_add(load_some(x + r * in + k, rest), weights, sum[r][o]);
      }
    }
  }
  // Four sums at a time; those past the end repeat the last.
#pragma GCC unroll 16
  for (int n = 0; n < R * O; n += 4) {
    const int last = R * O - 1;
    const int b = n + 1 < last ? n + 1 : last, c = n + 2 < last ? n + 2 : last, d = n + 3 < last ? n + 3 : last;
    Four four = sums(sum[n / O][n % O], sum[b / O][b % O], sum[c / O][c % O], sum[d / O][d % O]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (n + i <= last) {
        float* to = y + (n + i) / O * out + (n + i) % O;
        const float value = bias == nullptr ? four[i] : four[i] + bias[(n + i) % O];
        *to = add ? *to + value : value;
      }
    }
  }
}

// All rows of one block with one step of O outputs.
template <int O>
REINS_INLINE void linear_step(const float* x, int64_t rows, int64_t in, const float* w, int64_t count,
                              const float* bias, float* y, int64_t out, bool add) {
  const int64_t passes = (rows + REINS_TILE_ROWS - 1) / REINS_TILE_ROWS;
  const float* next = w + O * in;
  int64_t r = 0, asked = 0;
  for (int64_t pass = 0; pass < passes; ++pass, r += REINS_TILE_ROWS) {
    // Every row of the next step is asked for once, in as many passes as there are.
    const int64_t until = pass + 1 < passes ? (pass + 1) * O / (passes < O ? passes : O) : O;
    const int64_t num_ahead = (until < O ? until : O) - asked;
    const float* ahead = next + asked * in;
    asked += num_ahead;
    const float* from = x + r * in;
    float* to = y + r * out;
    switch (rows - r) {
#if REINS_TILE_ROWS > 3
      case 3:
        linear_tile<3, O>(from, in, w, count, bias, to, out, add, ahead, num_ahead);
        break;
      case 2:
        linear_tile<2, O>(from, in, w, count, bias, to, out, add, ahead, num_ahead);
        break;
#endif
#if REINS_TILE_ROWS > 1
      case 1:
        linear_tile<1, O>(from, in, w, count, bias, to, out, add, ahead, num_ahead);
        break;
#endif
      default:
        linear_tile<REINS_TILE_ROWS, O>(from, in, w, count, bias, to, out, add, ahead, num_ahead);
        break;
    }
  }
}

void linear_outputs(const float* x, int64_t rows, int64_t in, const float* w, const float* bias, float* y, int64_t out,
                    int64_t begin, int64_t end) {
  // At least one walk, so that an empty sum is written too.
  for (int64_t cut = 0; cut == 0 || cut < in; cut += kCut) {
    const int64_t count = in - cut < kCut ? in - cut : kCut;
    const int64_t block = kBlock / (count < 64 ? 64 : count) / REINS_TILE_ROWS * REINS_TILE_ROWS;
    for (int64_t row = 0; row < rows; row += block) {
      const int64_t num_rows = rows - row < block ? rows - row : block;
      const float* from = x + row * in + cut;
      float* to = y + row * out;
      int64_t o = begin;
      for (; o + REINS_TILE_OUTPUTS <= end; o += REINS_TILE_OUTPUTS) {
        const float* shift = bias == nullptr || cut != 0 ? nullptr : bias + o;
        linear_step<REINS_TILE_OUTPUTS>(from, num_rows, in, w + o * in + cut, count, shift, to + o, out, cut != 0);
      }
      for (; o < end; ++o) {
        const float* shift = bias == nullptr || cut != 0 ? nullptr : bias + o;
        linear_step<1>(from, num_rows, in, w + o * in + cut, count, shift, to + o, out, cut != 0);
      }
    }
  }
}

}  // namespace
}  // namespace reins
