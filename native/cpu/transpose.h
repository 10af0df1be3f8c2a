// Transposition of sixteen rows of 32-bit elements in registers, for packing.
#pragma once

#include "simd.h"

#if MOE_LANES == 16
#include "intrinsics.h"

namespace moe::MOE_KERNELS {

inline __mmask16 firstLanes(int64_t count) { return static_cast<__mmask16>(count >= 16 ? 0xffffu : count <= 0 ? 0u : (1u << count) - 1); }

// In each quarter of four vectors: its four elements of four rows become four rows of its four elements.
MOE_INLINE void transposeQuarters(__m512i row[4]) {
  const __m512i low01 = _mm512_unpacklo_epi32(row[0], row[1]), high01 = _mm512_unpackhi_epi32(row[0], row[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(row[2], row[3]), high23 = _mm512_unpackhi_epi32(row[2], row[3]);
  row[0] = _mm512_unpacklo_epi64(low01, low23);
  row[1] = _mm512_unpackhi_epi64(low01, low23);
  row[2] = _mm512_unpacklo_epi64(high01, high23);
  row[3] = _mm512_unpackhi_epi64(high01, high23);
}

// Sixteen elements of sixteen rows.
MOE_INLINE void transpose(__m512i row[16]) {
  __m512i half[16];
  MOE_UNROLL
  for (int i = 0; i < 16; i += 4) transposeQuarters(row + i);
  MOE_UNROLL
  for (int i = 0; i < 4; i++) {
    half[i] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0x88);
    half[i + 4] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0xdd);
    half[i + 8] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0x88);
    half[i + 12] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0xdd);
  }
  MOE_UNROLL
  for (int i = 0; i < 4; i++) {
    row[i] = _mm512_shuffle_i32x4(half[i], half[i + 8], 0x88);
    row[i + 8] = _mm512_shuffle_i32x4(half[i], half[i + 8], 0xdd);
    row[i + 4] = _mm512_shuffle_i32x4(half[i + 4], half[i + 12], 0x88);
    row[i + 12] = _mm512_shuffle_i32x4(half[i + 4], half[i + 12], 0xdd);
  }
}

// Columns of eight elements of sixteen rows. Vector i has the eight of row i in its lower half and of row i + 4 in its upper one,
// vector 4 + i of rows 8 + i and 12 + i; vector j of the result is column j.
MOE_INLINE void transposeHalves(__m512i pair[8]) {
  transposeQuarters(pair);
  transposeQuarters(pair + 4);
  __m512i column[8];
  MOE_UNROLL
  for (int i = 0; i < 4; i++) {
    column[i] = _mm512_shuffle_i32x4(pair[i], pair[4 + i], 0x88);
    column[4 + i] = _mm512_shuffle_i32x4(pair[i], pair[4 + i], 0xdd);
  }
  MOE_UNROLL
  for (int i = 0; i < 8; i++) pair[i] = column[i];
}

}  // namespace moe::MOE_KERNELS

#endif
