// Packing of operands into strips [unit][width] (gemm.h), padded to the width with anything and to whole units with zeros. A strip's numbers
// are the same whatever the source is stored as: a float becomes bf16 here, or was rounded the same way when it was stored.
#pragma once

#include "../transpose.h"
#include "gemm.h"

namespace moe::MOE_KERNELS {

inline int64_t rowOf(const Operand& from, int64_t i) { return from.rows ? from.rows[i] : i; }

#if MOE_LANES == 16

// Units [k, k + 16) of sixteen rows, of which the first `height` are used, as columns; with `some`, only elements below `depth` exist.
template <bool some, int64_t height>
MOE_INLINE void columnsAlong(Float32, __m512i block[16], const float* const row[16], int64_t k, int64_t depth) {
  const __mmask16 exist = firstLanes(some ? depth - k : 16);
  MOE_UNROLL
  for (int64_t i = 0; i < 16; i++) block[i] = i < height ? _mm512_maskz_loadu_epi32(exist, row[i] + k) : _mm512_setzero_si512();
  transpose(block);
}

// Units of sixteen columns of the rows k and k + 1, of which `columns` and `nextColumns` exist.
inline __m512i unitsAcross(Float32, const float* row, const float*, __mmask16 columns, __mmask16) { return _mm512_maskz_loadu_epi32(columns, row); }

#if MOE_BF16

// Rounding takes two vectors and so does the last step of a transposition: halves of two rows meet here.
template <bool some, int64_t height>
MOE_INLINE void columnsAlong(Mixed, __m512i block[16], const float* const row[16], int64_t k, int64_t depth) {
  const __mmask16 low = firstLanes(some ? depth - k : 16), high = firstLanes(some ? depth - k - 16 : 16);
  MOE_UNROLL
  for (int64_t i = 0; i < 8; i++) {
    const float *upper = row[i < 4 ? i : i + 4] + k, *lower = row[i < 4 ? i + 4 : i + 8] + k;
    block[i] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(low, lower), _mm512_maskz_loadu_ps(low, upper));
    block[8 + i] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, lower + 16), _mm512_maskz_loadu_ps(high, upper + 16));
  }
  transposeHalves(block);
  transposeHalves(block + 8);
}

template <bool some, int64_t height>
MOE_INLINE void columnsAlong(Mixed, __m512i block[16], const Half* const row[16], int64_t k, int64_t depth) {
  const __mmask32 exist = some && depth - k < 32 ? (1u << (depth - k)) - 1 : 0xffffffffu;
  MOE_UNROLL
  for (int64_t i = 0; i < 16; i++) block[i] = i < height ? _mm512_maskz_loadu_epi16(exist, row[i] + k) : _mm512_setzero_si512();
  transpose(block);
}

// The two rows' halves, low [0, 16) and high [16, 32), as pairs.
inline __m512i pairUp(__m512i rows) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, rows);
}

inline __m512i unitsAcross(Mixed, const float* row, const float* next, __mmask16 columns, __mmask16 nextColumns) {
  const __m512 low = _mm512_maskz_loadu_ps(columns, row), high = _mm512_maskz_loadu_ps(nextColumns, next);
  return pairUp((__m512i)_mm512_cvtne2ps_pbh(high, low));
}

inline __m512i unitsAcross(Mixed, const Half* row, const Half* next, __mmask16 columns, __mmask16 nextColumns) {
  const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m256i low = _mm256_maskz_loadu_epi16(columns, row), high = _mm256_maskz_loadu_epi16(nextColumns, next);
  return _mm512_permutex2var_epi16(_mm512_castsi256_si512(low), order, _mm512_castsi256_si512(high));
}

#endif

// One strip of rows [first, first + count) along k. Rows that are not there repeat the last one that is.
template <class Kind, class Source, int64_t width>
void packAlong(float* to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  const Source* data = static_cast<const Source*>(from.data);
  constexpr int64_t height = width < 16 ? width : 16;
  const int64_t units = unitsOf<Kind>(depth), whole = depth / (16 * Kind::perUnit) * 16;
  for (int64_t part = 0; part < width; part += 16) {
    const Source* source[16];
    for (int64_t i = 0; i < 16; i++) source[i] = data + rowOf(from, first + least(part + i, count - 1)) * from.stride + k0;
    const __mmask16 stored = firstLanes(width - part);
    __m512i block[16];
    for (int64_t unit = 0; unit < whole; unit += 16) {
      columnsAlong<false, height>(Kind{}, block, source, unit * Kind::perUnit, depth);
      MOE_UNROLL
      for (int64_t u = 0; u < 16; u++) _mm512_mask_storeu_epi32(to + (unit + u) * width + part, stored, block[u]);
    }
    if (whole == units) continue;
    columnsAlong<true, height>(Kind{}, block, source, whole * Kind::perUnit, depth);
    for (int64_t u = 0; u < units - whole; u++) _mm512_mask_storeu_epi32(to + (whole + u) * width + part, stored, block[u]);
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
    const bool isPair = Kind::perUnit == 2 && k + 1 < depth;
    const Source* next = isPair ? data + rowOf(from, k0 + k + 1) * from.stride : row;
    for (int64_t strip = 0; strip < count; strip += width) {
      float* out = to + strip * units + unit * width;
      for (int64_t part = 0; part < width; part += 16) {
        const int64_t lanesHere = least(16, width - part), at = strip + part;
        const __mmask16 columns = firstLanes(least(lanesHere, count - at));
        _mm512_mask_storeu_epi32(out + part, firstLanes(lanesHere), unitsAcross(Kind{}, row + at, next + at, columns, isPair ? columns : 0));
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
