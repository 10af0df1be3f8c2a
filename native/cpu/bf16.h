// bf16, the upper half of a float: how the mixed kernels keep operands of products in memory, and the conversion of vectors.
// Only sets compiled for AVX512_BF16 have it (MOE_BF16); in the others nothing is ever stored as bf16.
// Rounding is to nearest even, denormals become zero, as VDPBF16PS itself reads them.
#pragma once

#include "simd.h"

#if defined(__AVX512BF16__)
#define MOE_BF16 1
#include "intrinsics.h"
#else
#define MOE_BF16 0
#endif

namespace moe::MOE_KERNELS {

struct Half {
  uint16_t bits;
};

#if MOE_BF16

inline Vec load(const Half* from) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return reinterpret_cast<Vec>(_mm512_slli_epi32(wide, 16));
}

inline void store(Half* to, Vec x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)x)); }

inline Vec loadPart(const Half* from, int64_t count, float fill) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1), from));
  float lane[MOE_LANES];
  store(lane, reinterpret_cast<Vec>(_mm512_slli_epi32(wide, 16)));
  for (int64_t i = count; i < lanes; i++) lane[i] = fill;
  return load(lane);
}

inline void storePart(Half* to, Vec x, int64_t count) {
  _mm256_mask_storeu_epi16(to, static_cast<__mmask16>((1u << count) - 1), (__m256i)_mm512_cvtneps_pbh((__m512)x));
}

#endif

inline float toFloat(float x) { return x; }
inline float toFloat(Half x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

inline void storeOne(float* to, float x) { *to = x; }
inline void storeOne(Half* to, float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  // Rounding a NaN up could carry it into another number.
  to->bits = static_cast<uint16_t>((x == x ? bits + 0x7fff + (bits >> 16 & 1) : bits | 0x400000) >> 16);
}

}  // namespace moe::MOE_KERNELS
