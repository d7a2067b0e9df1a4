// Normalisation, gated activation and rotation: one pass over their numbers each.
#pragma once

namespace reins {
namespace {

void rms_norm_rows(const float* x, const float* w, float eps, float* y, float* inverse_rms, int64_t rows,
                   int64_t hidden) {
  const int64_t whole = hidden / kLanes * kLanes, rest = hidden - whole;
  for (int64_t row = 0; row < rows; ++row, x += hidden, y += hidden) {
    Vec even = splat(0.0f), odd = splat(0.0f);
    int64_t k = 0;
    for (; k + 2 * kLanes <= whole; k += 2 * kLanes) {
      Vec a = load(x + k), b = load(x + k + kLanes);
      even = multiply_add(a, a, even);
      odd = multiply_add(b, b, odd);
    }
    for (; k < hidden; k += kLanes) {
      Vec a = k < whole ? load(x + k) : load_some(x + k, rest);
      even = multiply_add(a, a, even);
    }
    const float inverse = 1.0f / __builtin_sqrtf(sum(even + odd) / static_cast<float>(hidden) + eps);
    if (inverse_rms != nullptr) {
      inverse_rms[row] = inverse;
    }
    const Vec scale = splat(inverse);
    for (k = 0; k < whole; k += kLanes) {
      store(y + k, load(x + k) * scale * load(w + k));
    }
    if (rest != 0) {
      store_some(y + k, load_some(x + k, rest) * scale * load_some(w + k, rest), rest);
    }
  }
}

// With n = x * inverse and g = grad_y * w: grad_x = inverse * (g - n * mean(g * n)), grad_w = sum over rows of grad_y * n.
void rms_norm_backward_rows(const float* grad_y, const float* x, const float* w, const float* inverse_rms, float* grad_x,
                            float* grad_w, int64_t rows, int64_t hidden) {
  const int64_t whole = hidden / kLanes * kLanes, rest = hidden - whole;
  for (int64_t row = 0; row < rows; ++row, x += hidden, grad_y += hidden) {
    const Vec inverse = splat(inverse_rms[row]);
    Vec total = splat(0.0f);
    for (int64_t k = 0; k < hidden; k += kLanes) {
      const bool full = k < whole;
      Vec g = full ? load(grad_y + k) : load_some(grad_y + k, rest);
      Vec n = (full ? load(x + k) : load_some(x + k, rest)) * inverse;
      Vec weight = full ? load(w + k) : load_some(w + k, rest);
      Vec gn = g * n;
      total = multiply_add(gn, weight, total);
      if (grad_w != nullptr) {
        if (full) {
          store(grad_w + k, load(grad_w + k) + gn);
        } else {
          store_some(grad_w + k, load_some(grad_w + k, rest) + gn, rest);
        }
      }
    }
    if (grad_x == nullptr) {
      continue;
    }
    const Vec mean = splat(sum(total) / static_cast<float>(hidden));
    float* to = grad_x + row * hidden;
    for (int64_t k = 0; k < hidden; k += kLanes) {
      const bool full = k < whole;
      Vec g = full ? load(grad_y + k) : load_some(grad_y + k, rest);
      Vec n = (full ? load(x + k) : load_some(x + k, rest)) * inverse;
      Vec weight = full ? load(w + k) : load_some(w + k, rest);
      Vec result = inverse * (g * weight - n * mean);
      if (full) {
        store(to + k, result);
      } else {
        store_some(to + k, result, rest);
      }
    }
  }
}

REINS_INLINE Vec sigmoid(const Vec& x) { return splat(1.0f) / (splat(1.0f) + exponential(splat(0.0f) - x)); }

void swiglu_range(const float* gate, const float* up, float* y, int64_t count) {
  int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    Vec g = load(gate + k);
    store(y + k, g * sigmoid(g) * load(up + k));
  }
  if (k < count) {
    Vec g = load_some(gate + k, count - k);
    store_some(y + k, g * sigmoid(g) * load_some(up + k, count - k), count - k);
  }
}

void swiglu_backward_range(const float* grad_y, const float* gate, const float* up, float* grad_gate, float* grad_up,
                           int64_t count) {
  for (int64_t k = 0; k < count; k += kLanes) {
    const int64_t rest = count - k;
    const bool full = kLanes <= rest;
    Vec dy = full ? load(grad_y + k) : load_some(grad_y + k, rest);
    Vec g = full ? load(gate + k) : load_some(gate + k, rest);
    Vec u = full ? load(up + k) : load_some(up + k, rest);
    Vec s = sigmoid(g);
    Vec one = splat(1.0f);
    Vec dg = dy * u * s * (one + g * (one - s));
    Vec du = dy * g * s;
    if (full) {
      store(grad_gate + k, dg);
      store(grad_up + k, du);
    } else {
      store_some(grad_gate + k, dg, rest);
      store_some(grad_up + k, du, rest);
    }
  }
}

void rotary_tokens(const float* x, const float* cos, const float* sin, float* y, int64_t tokens, int64_t heads,
                   int64_t head_dim, bool inverse) {
  const int64_t half = head_dim / 2;
  for (int64_t token = 0; token < tokens; ++token, cos += head_dim, sin += head_dim) {
    for (int64_t head = 0; head < heads; ++head, x += head_dim, y += head_dim) {
      for (int64_t k = 0; k < half; k += kLanes) {
        const int64_t rest = half - k;
        const bool full = kLanes <= rest;
        auto at = [&](const float* from) __attribute__((always_inline)) {
          return full ? load(from + k) : load_some(from + k, rest);
        };
        Vec x1 = at(x), x2 = at(x + half), c1 = at(cos), c2 = at(cos + half), s1 = at(sin), s2 = at(sin + half);
        // (y1, y2) = (x1 c1 - x2 s1, x2 c2 + x1 s2), and its transpose.
        Vec y1 = inverse ? x1 * c1 + x2 * s2 : x1 * c1 - x2 * s1;
        Vec y2 = inverse ? x2 * c2 - x1 * s1 : x2 * c2 + x1 * s2;
        if (full) {
          store(y + k, y1);
          store(y + half + k, y2);
        } else {
          store_some(y + k, y1, rest);
          store_some(y + half + k, y2, rest);
        }
      }
    }
  }
}

void exp_range(const float* x, float* out, int64_t count) {
  int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    store(out + k, exponential(load(x + k)));
  }
  if (k < count) {
    store_some(out + k, exponential(load_some(x + k, count - k)), count - k);
  }
}

}  // namespace
}  // namespace reins
