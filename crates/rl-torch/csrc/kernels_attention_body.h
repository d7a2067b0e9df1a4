// Attention of the queries that share one key/value head over its cached tokens: keys once, softmax, values once.
#pragma once

namespace reins {
namespace {

// scores[h, t] = scale * q[h] . keys[t] for H heads.
template <int H, int D>
REINS_INLINE void score(const float* q, const float* keys, float* scores, int64_t stride, int64_t count, float scale) {
  Vec query[H][D];
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) {
#pragma GCC unroll 16
    for (int d = 0; d < D; ++d) {
      query[h][d] = load(q + (h * D + d) * kLanes) * splat(scale);
    }
  }
  int64_t t = 0;
  for (; t < count; t += 4) {
    // Past the end the last key stands in; its scores are overwritten or never read.
    const float* key[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int64_t at = t + i < count ? t + i : count - 1;
      key[i] = keys + at * D * kLanes;
    }
    __builtin_prefetch(keys + (t + 16) * D * kLanes, 0, 3);
    Vec total[H][4];
#pragma GCC unroll 16
    for (int d = 0; d < D; ++d) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Vec k = load(key[i] + d * kLanes);
#pragma GCC unroll 4
        for (int h = 0; h < H; ++h) {
          total[h][i] = d == 0 ? query[h][d] * k : multiply_add(query[h][d], k, total[h][i]);
        }
      }
    }
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
      Four four = sums(total[h][0], total[h][1], total[h][2], total[h][3]);
      __builtin_memcpy(scores + h * stride + t, &four, sizeof four);
    }
  }
}

// out[h] = sum_t scores[h, t] values[t] / total[h] for H heads.
template <int H, int D>
REINS_INLINE void mix(const float* scores, int64_t stride, const float* totals, const float* values, float* out,
                      int64_t count) {
  Vec sum[H][D];
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) {
#pragma GCC unroll 16
    for (int d = 0; d < D; ++d) {
      sum[h][d] = splat(0.0f);
    }
  }
  for (int64_t t = 0; t < count; ++t) {
    const float* value = values + t * D * kLanes;
    Vec weight[H];
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
      weight[h] = splat(scores[h * stride + t]);
    }
#pragma GCC unroll 16
    for (int d = 0; d < D; ++d) {
      Vec v = load(value + d * kLanes);
#pragma GCC unroll 4
      for (int h = 0; h < H; ++h) {
        sum[h][d] = multiply_add(weight[h], v, sum[h][d]);
      }
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) {
    const Vec inverse = splat(1.0f / totals[h]);
#pragma GCC unroll 16
    for (int d = 0; d < D; ++d) {
      store(out + (h * D + d) * kLanes, sum[h][d] * inverse);
    }
  }
}

// Turns scores into exp(score - largest) in place; returns their sum.
REINS_INLINE float exponentiate(float* scores, int64_t count) {
  Vec best = splat(-__builtin_inff());
  int64_t t = 0;
  for (; t + kLanes <= count; t += kLanes) {
    best = max(load(scores + t), best);
  }
  float top = largest(best);
  for (; t < count; ++t) {
    top = scores[t] > top ? scores[t] : top;
  }
  const Vec shift = splat(top);
  Vec total = splat(0.0f);
  for (t = 0; t + kLanes <= count; t += kLanes) {
    Vec e = exponential(load(scores + t) - shift);
    store(scores + t, e);
    total = total + e;
  }
  float rest = 0.0f;
  if (t < count) {
    store_some(scores + t, exponential(load_some(scores + t, count - t) - shift), count - t);
    for (; t < count; ++t) {
      rest += scores[t];
    }
  }
  return sum(total) + rest;
}

// H heads with D vectors per head.
template <int H, int D>
void attend(const float* q, const float* keys, const float* values, float* out, float* scores, int64_t count,
            float scale) {
  const int64_t stride = (count + kLanes - 1) / kLanes * kLanes;
  score<H, D>(q, keys, scores, stride, count, scale);
  float totals[H];
  for (int h = 0; h < H; ++h) {
    totals[h] = exponentiate(scores + h * stride, count);
  }
  mix<H, D>(scores, stride, totals, values, out, count);
}

// Any head_dim that is a multiple of 16, one head at a time.
void attend_any(const float* q, const float* keys, const float* values, float* out, float* scores, int64_t count,
                int64_t head_dim, float scale) {
  for (int64_t t = 0; t < count; ++t) {
    Vec total = splat(0.0f);
    for (int64_t d = 0; d < head_dim; d += kLanes) {
      total = multiply_add(load(q + d), load(keys + t * head_dim + d), total);
    }
    scores[t] = scale * sum(total);
  }
  const Vec inverse = splat(1.0f / exponentiate(scores, count));
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    Vec total = splat(0.0f);
    for (int64_t t = 0; t < count; ++t) {
      total = multiply_add(splat(scores[t]), load(values + t * head_dim + d), total);
    }
    store(out + d, total * inverse);
  }
}

template <int D>
REINS_INLINE void attend_heads(const float* q, const float* keys, const float* values, float* out, float* scores,
                               int64_t heads, int64_t count, float scale) {
  constexpr int64_t head_dim = D * kLanes;
  // As many heads together as registers hold; a head's result is the same in any company.
  constexpr int64_t together = D <= 4 ? 4 : 2;
  for (int64_t h = 0; h < heads;) {
    const float* query = q + h * head_dim;
    float* to = out + h * head_dim;
    const int64_t left = heads - h < together ? heads - h : together;
    switch (left) {
      case 4:
        attend<D <= 4 ? 4 : 1, D>(query, keys, values, to, scores, count, scale);
        break;
      case 3:
        attend<D <= 4 ? 3 : 1, D>(query, keys, values, to, scores, count, scale);
        break;
      case 2:
        attend<2, D>(query, keys, values, to, scores, count, scale);
        break;
      default:
        attend<1, D>(query, keys, values, to, scores, count, scale);
        break;
    }
    h += left;
  }
}

void attention_heads(const float* q, const float* keys, const float* values, float* out, float* scores, int64_t heads,
                     int64_t count, int64_t head_dim, float scale) {
  switch (head_dim) {
    case 32:
      attend_heads<2>(q, keys, values, out, scores, heads, count, scale);
      break;
    case 64:
      attend_heads<4>(q, keys, values, out, scores, heads, count, scale);
      break;
    case 128:
      attend_heads<8>(q, keys, values, out, scores, heads, count, scale);
      break;
    default:
      for (int64_t h = 0; h < heads; ++h) {
        attend_any(q + h * head_dim, keys, values, out + h * head_dim, scores, count, head_dim, scale);
      }
  }
}

}  // namespace
}  // namespace reins
