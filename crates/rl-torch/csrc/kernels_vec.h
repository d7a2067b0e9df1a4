// Sixteen floats as the kernels see them: one, two or four registers, by REINS_WIDTH (bytes of a register).
//
// Included after the instruction set is chosen, so nothing here may include a header: an inline function of a library
// compiled for a newer processor could then be the one that every other file is linked to.
#pragma once

#define REINS_INLINE inline __attribute__((always_inline))

namespace reins {
namespace {

constexpr int64_t kLanes = 16;
constexpr int kParts = 64 / REINS_WIDTH;

typedef float Reg __attribute__((vector_size(REINS_WIDTH)));
typedef float LooseReg __attribute__((vector_size(REINS_WIDTH), aligned(4), may_alias));
typedef int32_t IntReg __attribute__((vector_size(REINS_WIDTH)));
typedef float Four __attribute__((vector_size(16)));

struct Vec {
  Reg part[kParts];
};

REINS_INLINE Vec load(const float* from) {
  Vec v;
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    v.part[i] = *reinterpret_cast<const LooseReg*>(from + i * (kLanes / kParts));
  }
  return v;
}

REINS_INLINE void store(float* to, const Vec& v) {
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    *reinterpret_cast<LooseReg*>(to + i * (kLanes / kParts)) = v.part[i];
  }
}

REINS_INLINE Vec splat(float value) {
  Vec v;
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    v.part[i] = value - Reg{};
  }
  return v;
}

// The first `count` floats, then zeros.
REINS_INLINE Vec load_some(const float* from, int64_t count) {
  float buffer[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) {
    buffer[i] = from[i];
  }
  return load(buffer);
}

REINS_INLINE void store_some(float* to, const Vec& v, int64_t count) {
  float buffer[kLanes];
  store(buffer, v);
  for (int64_t i = 0; i < count; ++i) {
    to[i] = buffer[i];
  }
}

#define REINS_EACH_PART(expression)      \
  Vec v;                                 \
  _Pragma("GCC unroll 4")                \
  for (int i = 0; i < kParts; ++i) {     \
    v.part[i] = expression;              \
  }                                      \
  return v;

REINS_INLINE Vec operator+(const Vec& a, const Vec& b) { REINS_EACH_PART(a.part[i] + b.part[i]) }
REINS_INLINE Vec operator-(const Vec& a, const Vec& b) { REINS_EACH_PART(a.part[i] - b.part[i]) }
REINS_INLINE Vec operator*(const Vec& a, const Vec& b) { REINS_EACH_PART(a.part[i] * b.part[i]) }
REINS_INLINE Vec operator/(const Vec& a, const Vec& b) { REINS_EACH_PART(a.part[i] / b.part[i]) }
REINS_INLINE Vec max(const Vec& a, const Vec& b) { REINS_EACH_PART(a.part[i] > b.part[i] ? a.part[i] : b.part[i]) }
// a * b + c in one rounding where the processor has it (the build allows contraction).
REINS_INLINE Vec multiply_add(const Vec& a, const Vec& b, const Vec& c) {
  REINS_EACH_PART(a.part[i] * b.part[i] + c.part[i])
}

// Sums of four vectors. Each sum is made in the same order, whichever of the four it is.
REINS_INLINE Four sums(const Vec& a, const Vec& b, const Vec& c, const Vec& d) {
  const Vec* list[4] = {&a, &b, &c, &d};
  Four folded[4];
#pragma GCC unroll 4
  for (int n = 0; n < 4; ++n) {
    Reg r = list[n]->part[0];
#pragma GCC unroll 4
    for (int i = 1; i < kParts; ++i) {
      r += list[n]->part[i];
    }
#if REINS_WIDTH == 64
    typedef float Eight __attribute__((vector_size(32)));
    Eight half = __builtin_shufflevector(r, r, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(r, r, 8, 9, 10, 11, 12, 13, 14, 15);
    folded[n] = __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif REINS_WIDTH == 32
    folded[n] = __builtin_shufflevector(r, r, 0, 1, 2, 3) + __builtin_shufflevector(r, r, 4, 5, 6, 7);
#else
    folded[n] = r;
#endif
  }
  Four ab = __builtin_shufflevector(folded[0], folded[1], 0, 4, 1, 5) +
            __builtin_shufflevector(folded[0], folded[1], 2, 6, 3, 7);  // a02 b02 a13 b13
  Four cd = __builtin_shufflevector(folded[2], folded[3], 0, 4, 1, 5) +
            __builtin_shufflevector(folded[2], folded[3], 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

REINS_INLINE float sum(const Vec& a) { return sums(a, a, a, a)[0]; }

REINS_INLINE float largest(const Vec& a) {
  float buffer[kLanes];
  store(buffer, a);
  float best = buffer[0];
  for (int i = 1; i < kLanes; ++i) {
    best = buffer[i] > best ? buffer[i] : best;
  }
  return best;
}

// exp to about one unit in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial of degree 7 in r, and a
// scaling by 2^n in two steps so that subnormal results are right. NaN stays NaN; over 88.73 gives infinity.
REINS_INLINE Vec exponential(const Vec& x) {
  Vec result;
#pragma GCC unroll 4
  for (int i = 0; i < kParts; ++i) {
    Reg p = x.part[i];
    const Reg zero = {};
    const Reg high = 89.0f - zero, low = -104.0f - zero;
    Reg clamped = p > high ? high : p;  // a NaN passes both
    clamped = clamped < low ? low : clamped;
    const Reg magic = 12582912.0f - zero;  // 1.5 * 2^23: adding and taking it away rounds to an integer
    Reg shifted = clamped * 1.44269504088896341f + magic;
    Reg n = shifted - magic;
    Reg r = clamped - n * 0.693145751953125f;  // ln 2 in two parts, the first exact in 16 bits
    r = r - n * 1.42860682030941723e-6f;
    Reg e = r * (1.0f / 5040) + (1.0f / 720);
    e = e * r + (1.0f / 120);
    e = e * r + (1.0f / 24);
    e = e * r + (1.0f / 6);
    e = e * r + 0.5f;
    e = e * r * r + r;
    e = e + 1.0f;
    IntReg bits = reinterpret_cast<IntReg>(shifted) - 0x4B400000;  // n as an integer
    IntReg first = bits >> 1, second = bits - first;
    Reg scale_first = reinterpret_cast<Reg>((first + 127) << 23);
    Reg scale_second = reinterpret_cast<Reg>((second + 127) << 23);
    result.part[i] = clamped != clamped ? p : e * scale_first * scale_second;
  }
  return result;
}

}  // namespace
}  // namespace reins
