// Packing of operands into strips [unit][width] (gemm.h), zero-padded to the width and to whole units. A strip's numbers
// are the same whatever the source is stored as: a float becomes bf16 here, or was rounded the same way when it was stored.
#pragma once

#include "../transpose.h"
#include "gemm.h"

namespace moe::MOE_KERNELS {

inline int64_t rowOf(const Operand& from, int64_t i) { return from.rows ? from.rows[i] : i; }

#if MOE_LANES == 16

// The next sixteen units of a row along k, of which `count` elements exist.
inline __m512i unitsAlong(Float32, const float* row, int64_t count) { return _mm512_maskz_loadu_epi32(firstLanes(count), row); }

// Units of sixteen columns of the rows k and k + 1 (null when there is no such row).
inline __m512i unitsAcross(Float32, const float* row, const float*, __mmask16 columns) { return _mm512_maskz_loadu_epi32(columns, row); }

#if MOE_BF16

inline __m512i unitsAlong(Mixed, const float* row, int64_t count) {
  const __m512 low = _mm512_maskz_loadu_ps(firstLanes(count), row), high = _mm512_maskz_loadu_ps(firstLanes(count - 16), row + 16);
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

inline __m512i unitsAlong(Mixed, const Half* row, int64_t count) {
  return _mm512_maskz_loadu_epi16(static_cast<__mmask32>(count >= 32 ? 0xffffffffu : (1u << count) - 1), row);
}

// The two rows' halves, low [0, 16) and high [16, 32), as pairs.
inline __m512i pairUp(__m512i rows) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, rows);
}

inline __m512i unitsAcross(Mixed, const float* row, const float* next, __mmask16 columns) {
  const __m512 low = _mm512_maskz_loadu_ps(columns, row), high = next ? _mm512_maskz_loadu_ps(columns, next) : _mm512_setzero_ps();
  return pairUp((__m512i)_mm512_cvtne2ps_pbh(high, low));
}

inline __m512i unitsAcross(Mixed, const Half* row, const Half* next, __mmask16 columns) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(columns, row));
  if (!next) return low;
  return _mm512_or_si512(low, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(columns, next)), 16));
}

#endif

// One strip of rows [first, first + count) along k.
template <class Kind, class Source, int64_t width>
void packAlong(float* to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  const Source* data = static_cast<const Source*>(from.data);
  const int64_t units = unitsOf<Kind>(depth);
  for (int64_t part = 0; part < width; part += 16) {
    const Source* source[16];
    for (int64_t i = 0; i < 16; i++) source[i] = part + i < count && part + i < width ? data + rowOf(from, first + part + i) * from.stride + k0 : nullptr;
    const __mmask16 stored = firstLanes(width - part);
    for (int64_t unit = 0; unit < units; unit += 16) {
      const int64_t k = unit * Kind::perUnit, here = least(16, units - unit);
      __m512i block[16];
      MOE_UNROLL
      for (int64_t i = 0; i < 16; i++) block[i] = source[i] ? unitsAlong(Kind{}, source[i] + k, depth - k) : _mm512_setzero_si512();
      transpose(block);
      float* out = to + unit * width + part;
      if (here == 16) {
        MOE_UNROLL
        for (int64_t u = 0; u < 16; u++) _mm512_mask_storeu_epi32(out + u * width, stored, block[u]);
      } else {
        for (int64_t u = 0; u < here; u++) _mm512_mask_storeu_epi32(out + u * width, stored, block[u]);
      }
    }
  }
}

// Strips of `count` vectors whose k runs over rows: a row at a time through all strips, so that rows are read in whole lines.
template <class Kind, class Source, int64_t width>
void packAcross(float* to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  const Source* data = static_cast<const Source*>(from.data) + first;
  const int64_t units = unitsOf<Kind>(depth);
  for (int64_t unit = 0; unit < units; unit++) {
    const int64_t k = unit * Kind::perUnit;
    const Source* row = data + rowOf(from, k0 + k) * from.stride;
    const Source* next = Kind::perUnit == 2 && k + 1 < depth ? data + rowOf(from, k0 + k + 1) * from.stride : nullptr;
    for (int64_t strip = 0; strip < count; strip += width) {
      float* out = to + strip * units + unit * width;
      for (int64_t part = 0; part < width; part += 16) {
        const int64_t lanesHere = least(16, width - part), at = strip + part;
        const __mmask16 columns = firstLanes(least(lanesHere, count - at));
        _mm512_mask_storeu_epi32(out + part, firstLanes(lanesHere), unitsAcross(Kind{}, row + at, next ? next + at : nullptr, columns));
      }
    }
  }
}

#else

template <class Kind, class Source, int64_t width>
void packAlong(float* MOE_RESTRICT to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  const Source* data = static_cast<const Source*>(from.data);
  // A cache line of each row at a time: many rows at a power-of-two stride would evict each other.
  for (int64_t begin = 0; begin < depth; begin += 16) {
    const int64_t length = least(16, depth - begin);
    float* block = to + begin * width;
    for (int64_t i = 0; i < width; i++) {
      if (i >= count) {
        for (int64_t k = 0; k < length; k++) block[k * width + i] = 0;
        continue;
      }
      const Source* source = data + rowOf(from, first + i) * from.stride + k0 + begin;
      for (int64_t k = 0; k < length; k++) block[k * width + i] = source[k];
    }
  }
}

template <class Kind, class Source, int64_t width>
void packAcross(float* MOE_RESTRICT to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  const Source* data = static_cast<const Source*>(from.data) + first;
  for (int64_t k = 0; k < depth; k++) {
    const Source* row = data + rowOf(from, k0 + k) * from.stride;
    for (int64_t strip = 0; strip < count; strip += width) {
      float* out = to + strip * depth + k * width;
      const int64_t here = least(width, count - strip);
      for (int64_t i = 0; i < here; i++) out[i] = row[strip + i];
      for (int64_t i = here; i < width; i++) out[i] = 0;
    }
  }
}

#endif

template <class Kind, class Source, int64_t width>
void packStrips(float* to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  if (!from.kContiguous) return packAcross<Kind, Source, width>(to, from, first, count, k0, depth);
  const int64_t units = unitsOf<Kind>(depth);
  for (int64_t i = 0; i < count; i += width) packAlong<Kind, Source, width>(to + i * units, from, first + i, least(width, count - i), k0, depth);
}

// Vectors [first, first + count) × k in [k0, k0 + depth) of an operand as strips `width` wide; k0 is a whole unit.
template <class Kind, int64_t width>
void pack(float* to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
#if MOE_BF16
  if constexpr (Kind::perUnit == 2) {
    if (from.half) return packStrips<Kind, Half, width>(to, from, first, count, k0, depth);
  }
#endif
  packStrips<Kind, float, width>(to, from, first, count, k0, depth);
}

}  // namespace moe::MOE_KERNELS
