// One vector of floats, as wide as the instruction set this file is compiled for: with bf16.h and transpose.h the only place
// that knows compilers' vector extensions. GCC and clang (clang-cl too) use their vector types; other compilers get a plain
// array. Everything lives in the namespace of the instruction set (MOE_KERNELS), so copies of different sets never meet.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include "intrinsics.h"
#endif

#if defined(__AVX512F__)
#define MOE_LANES 16
#elif defined(__AVX2__)
#define MOE_LANES 8
#else
#define MOE_LANES 4
#endif

// Unroll the next loop, whose bounds are constants: its arrays then live in registers.
#if defined(__clang__)
#define MOE_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define MOE_UNROLL _Pragma("GCC unroll 32")
#else
#define MOE_UNROLL
#endif

// MOE_INLINE: for functions on blocks of registers, which a call would send through memory.
#if defined(_MSC_VER) && !defined(__clang__)
#define MOE_RESTRICT __restrict
#define MOE_INLINE __forceinline
#else
#define MOE_RESTRICT __restrict__
#define MOE_INLINE inline __attribute__((always_inline))
#endif

namespace moe::MOE_KERNELS {

constexpr int64_t lanes = MOE_LANES;

#if defined(__GNUC__) || defined(__clang__)

typedef float Vec __attribute__((vector_size(MOE_LANES * 4)));
typedef int32_t VecInt __attribute__((vector_size(MOE_LANES * 4)));
typedef float VecInMemory __attribute__((vector_size(MOE_LANES * 4), aligned(4), may_alias));

inline Vec load(const float* from) { return *reinterpret_cast<const VecInMemory*>(from); }
inline void store(float* to, Vec x) { *reinterpret_cast<VecInMemory*>(to) = x; }
inline Vec splat(float x) { return x - Vec{}; }
inline Vec select(VecInt mask, Vec yes, Vec no) { return reinterpret_cast<Vec>((reinterpret_cast<VecInt>(yes) & mask) | (reinterpret_cast<VecInt>(no) & ~mask)); }
inline Vec larger(Vec a, Vec b) { return select(a > b, a, b); }

#if defined(__AVX512F__)

// e^x, relative error below 2e-7; 0 from −110 down, capped at e^88, NaN stays NaN. Range reduction by n·ln 2, |r| ≤ ln 2 / 2,
// then the Taylor series to r⁷/7! (remainder below 6e-9), scaled by 2^n.
inline Vec exponential(Vec x) {
  // The order of the operands lets NaN through.
  const __m512 capped = _mm512_min_ps(_mm512_set1_ps(88.0f), _mm512_max_ps(_mm512_set1_ps(-110.0f), (__m512)x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(capped, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), capped));
  __m512 series = _mm512_set1_ps(1.0f / 5040);
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 720));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 120));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 24));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f / 6));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(0.5f));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f));
  series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f));
  return (Vec)_mm512_scalef_ps(series, n);
}

// 1/x of a finite x, within two units in the last place.
inline Vec reciprocal(Vec x) {
  const __m512 guess = _mm512_rcp14_ps((__m512)x);
  return (Vec)_mm512_mul_ps(guess, _mm512_fnmadd_ps((__m512)x, guess, _mm512_set1_ps(2.0f)));
}

#else

// e^x, relative error below 2e-7; 0 below -87.3, capped at e^88, NaN stays NaN. Range reduction by n·ln 2, |r| ≤ ln 2 / 2,
// then the Taylor series to r⁷/7! (remainder below 6e-9) and n added to the exponent bits.
inline Vec exponential(Vec x) {
  const Vec shifter = splat(12582912.0f);  // 1.5 · 2^23: adding it rounds to an integer held in the low bits
  const Vec capped = select(x > 88.0f, splat(88.0f), x);
  const Vec shifted = capped * 1.44269504f + shifter;
  const Vec n = shifted - shifter;
  const Vec r = (capped - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec series = splat(1.0f / 5040);
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const Vec power = reinterpret_cast<Vec>(reinterpret_cast<VecInt>(series) + (reinterpret_cast<VecInt>(shifted) << 23));
  return select(x == x, select(x < -87.3f, Vec{}, power), x);
}

inline Vec reciprocal(Vec x) { return 1.0f / x; }

#endif

#else

struct Vec {
  float lane[MOE_LANES];
};

#define MOE_LANEWISE(expression) \
  Vec result; \
  for (int i = 0; i < MOE_LANES; i++) result.lane[i] = expression; \
  return result

inline Vec load(const float* from) { MOE_LANEWISE(from[i]); }
inline void store(float* to, Vec x) { memcpy(to, x.lane, sizeof x.lane); }
inline Vec splat(float x) { MOE_LANEWISE(x); }
inline Vec operator+(Vec a, Vec b) { MOE_LANEWISE(a.lane[i] + b.lane[i]); }
inline Vec operator-(Vec a, Vec b) { MOE_LANEWISE(a.lane[i] - b.lane[i]); }
inline Vec operator*(Vec a, Vec b) { MOE_LANEWISE(a.lane[i] * b.lane[i]); }
inline Vec operator/(Vec a, Vec b) { MOE_LANEWISE(a.lane[i] / b.lane[i]); }
inline Vec larger(Vec a, Vec b) { MOE_LANEWISE(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
inline Vec exponential(Vec x) { MOE_LANEWISE(x.lane[i] < -87.3f ? 0.0f : expf(x.lane[i] > 88.0f ? 88.0f : x.lane[i])); }

inline Vec reciprocal(Vec x) { MOE_LANEWISE(1.0f / x.lane[i]); }

#undef MOE_LANEWISE

#endif

inline Vec squareRoot(Vec x) {
#if MOE_LANES == 16 && defined(__GNUC__)
  return (Vec)_mm512_sqrt_ps((__m512)x);
#elif MOE_LANES == 8 && defined(__GNUC__)
  return (Vec)_mm256_sqrt_ps((__m256)x);
#else
  float lane[MOE_LANES];
  store(lane, x);
  for (int i = 0; i < MOE_LANES; i++) lane[i] = sqrtf(lane[i]);
  return load(lane);
#endif
}

// The first `count` < lanes floats; the other lanes hold `fill`.
inline Vec loadPart(const float* from, int64_t count, float fill) {
  float lane[MOE_LANES];
  for (int64_t i = 0; i < lanes; i++) lane[i] = i < count ? from[i] : fill;
  return load(lane);
}

inline void storePart(float* to, Vec x, int64_t count) {
  float lane[MOE_LANES];
  store(lane, x);
  for (int64_t i = 0; i < count; i++) to[i] = lane[i];
}

// Sum of width numbers as a tree: halves onto each other, so the order is fixed and every level is one vector operation.
template <int width>
inline float sumOf(const float* x) {
  if constexpr (width == 1) return x[0];
  float half[width > 1 ? width / 2 : 1];
  MOE_UNROLL
  for (int i = 0; i < width / 2; i++) half[i] = x[i] + x[i + width / 2];
  return sumOf<(width > 1 ? width / 2 : 1)>(half);
}

template <int width>
inline float largestOf(const float* x) {
  if constexpr (width == 1) return x[0];
  float half[width > 1 ? width / 2 : 1];
  MOE_UNROLL
  for (int i = 0; i < width / 2; i++) half[i] = x[i] > x[i + width / 2] ? x[i] : x[i + width / 2];
  return largestOf<(width > 1 ? width / 2 : 1)>(half);
}

// The same tree in registers where there is an instruction for it.
inline float sumOfLanes(Vec x) {
#if MOE_LANES == 16 && defined(__GNUC__)
  return _mm512_reduce_add_ps((__m512)x);
#endif
  float lane[MOE_LANES];
  store(lane, x);
  return sumOf<MOE_LANES>(lane);
}

inline float largestLane(Vec x) {
#if MOE_LANES == 16 && defined(__GNUC__)
  return _mm512_reduce_max_ps((__m512)x);
#endif
  float lane[MOE_LANES];
  store(lane, x);
  return largestOf<MOE_LANES>(lane);
}

}  // namespace moe::MOE_KERNELS
