// Products of a few rows with a weight in the checkpoint's own layout: tiles of dot products.
//
// A tile holds R rows times O outputs in registers and walks once along `in`. The weights of a step come from memory
// once; the other rows of the step find them in the cache. The next step's weights are asked for ahead, spread evenly
// over this step's work, so that memory and arithmetic overlap.
#pragma once

namespace reins {
namespace {

template <int R, int O>
REINS_INLINE void linear_tile(const float* x, int64_t in, const float* w, const float* bias, float* y, int64_t out,
                              const char* ahead, int64_t lines) {
  Vec sum[R][O];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o) {
      sum[r][o] = splat(0.0f);
    }
  }
  int64_t k = 0;
  for (; k + 4 * kLanes <= in; k += 4 * kLanes) {
    for (int64_t line = 0; line < lines; ++line) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += 64;
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
  for (; k < in; k += kLanes) {
    const int64_t rest = in - k < kLanes ? in - k : kLanes;
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
    auto& pick = sum;
    const int last = R * O - 1;
    const int a = n, b = n + 1 < last ? n + 1 : last, c = n + 2 < last ? n + 2 : last, d = n + 3 < last ? n + 3 : last;
    Four four = sums(pick[a / O][a % O], pick[b / O][b % O], pick[c / O][c % O], pick[d / O][d % O]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (n + i <= last) {
        const int r = (n + i) / O, o = (n + i) % O;
        y[r * out + o] = bias == nullptr ? four[i] : four[i] + bias[o];
      }
    }
  }
}

// All rows of one step of O outputs.
template <int O>
REINS_INLINE void linear_step(const float* x, int64_t rows, int64_t in, const float* w, const float* bias, float* y,
                              int64_t out) {
  const int64_t passes = (rows + REINS_TILE_ROWS - 1) / REINS_TILE_ROWS;
  const int64_t lines = (4 * O + passes - 1) / passes;
  const char* ahead = reinterpret_cast<const char*>(w + O * in);
  int64_t r = 0;
  for (; r + REINS_TILE_ROWS <= rows; r += REINS_TILE_ROWS) {
    linear_tile<REINS_TILE_ROWS, O>(x + r * in, in, w, bias, y + r * out, out, ahead, lines);
    ahead += lines * 64 * (in / (4 * kLanes));
  }
  const float* rest = x + r * in;
  float* to = y + r * out;
  switch (rows - r) {
#if REINS_TILE_ROWS > 3
    case 3:
      linear_tile<3, O>(rest, in, w, bias, to, out, ahead, lines);
      break;
    case 2:
      linear_tile<2, O>(rest, in, w, bias, to, out, ahead, lines);
      break;
#endif
#if REINS_TILE_ROWS > 1
    case 1:
      linear_tile<1, O>(rest, in, w, bias, to, out, ahead, lines);
      break;
#endif
    default:
      break;
  }
}

void linear_outputs(const float* x, int64_t rows, int64_t in, const float* w, const float* bias, float* y, int64_t out,
                    int64_t begin, int64_t end) {
  int64_t o = begin;
  for (; o + REINS_TILE_OUTPUTS <= end; o += REINS_TILE_OUTPUTS) {
    linear_step<REINS_TILE_OUTPUTS>(x, rows, in, w + o * in, bias == nullptr ? nullptr : bias + o, y + o, out);
  }
  for (; o < end; ++o) {
    linear_step<1>(x, rows, in, w + o * in, bias == nullptr ? nullptr : bias + o, y + o, out);
  }
}

}  // namespace
}  // namespace reins
