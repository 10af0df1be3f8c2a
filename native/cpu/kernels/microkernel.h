// One register tile of a product from packed strips: the loop that everything else feeds.
#pragma once

#include "pack.h"

namespace moe::MOE_KERNELS {

// Where a tile goes: sums + add (unless null) to c, as floats or bf16, the top left rows × columns of it. `isFar`: c is not in
// a near cache, so its lines are asked for before the sums are made. `streams`: c, floats in whole lines, is stored past the caches.
// `squares`: where the sum of this tile's squares goes (AVX-512 only), or null; those of the tiles below it are squaresStride further on.
struct TileOut {
  void* c;
  bool half;
  int64_t cStride;
  const float* add;
  int64_t addStride;
  bool isFar = false;
  bool streams = false;
  float* squares = nullptr;
  int64_t squaresStride = 0;
};

// Memory that will be read soon: a line at `at`, at + step, and so on, one for each unit that is multiplied meanwhile.
struct Ahead {
  const char* at;
  int64_t step;
};

#if MOE_LANES == 16

inline __m512 multiplyUnit(Float32, __m512 sum, const float* a, __m512i b) { return _mm512_fmadd_ps(_mm512_set1_ps(*a), (__m512)b, sum); }

#if MOE_BF16
inline __m512 multiplyUnit(Mixed, __m512 sum, const float* a, __m512i b) {
  int32_t pair;
  memcpy(&pair, a, sizeof pair);
  return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)b);
}
#endif

// Returns what it has stored, but for rounding; zero in other columns.
inline __m512 storeSums(const TileOut& out, int64_t i, int64_t j, __m512 sum, __mmask16 columns) {
  // Without a summand to zero all the same: what flushing may leave of a sum, −0, is then 0.
  sum = _mm512_add_ps(sum, out.add ? _mm512_maskz_loadu_ps(columns, out.add + i * out.addStride + j) : _mm512_setzero_ps());
#if MOE_BF16
  if (out.half) {
    _mm256_mask_storeu_epi16(static_cast<Half*>(out.c) + i * out.cStride + j, columns, (__m256i)_mm512_cvtneps_pbh(sum));
    return sum;
  }
#endif
  float* c = static_cast<float*>(out.c) + i * out.cStride + j;
  if (out.streams && columns == 0xffff) _mm512_stream_ps(c, sum);
  else _mm512_mask_storeu_ps(c, columns, sum);
  return _mm512_maskz_mov_ps(columns, sum);
}

inline void fetchLines(const TileOut& out, int64_t rows) {
  const int64_t size = out.half ? 2 : 4;
  const char* c = static_cast<const char*>(out.c);
  for (int64_t i = 0; i < rows; i++, c += out.cStride * size) {
    _mm_prefetch(c, _MM_HINT_T1);
    _mm_prefetch(c + tileColumns * size - 1, _MM_HINT_T1);
  }
}

// A gradient, and its tile's part of the norm.
template <int64_t height>
MOE_INLINE void storeWithSquares(const __m512 (&sum)[height][tileVectors], const TileOut& out, int64_t rows, __mmask16 low, __mmask16 high) {
  __m512 squares[tileVectors] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  MOE_UNROLL
  for (int64_t i = 0; i < height; i++) {
    if (i < rows) {
      const __m512 left = storeSums(out, i, 0, sum[i][0], low);
      squares[0] = _mm512_fmadd_ps(left, left, squares[0]);
      if (!high) continue;
      const __m512 right = storeSums(out, i, lanes, sum[i][1], high);
      squares[1] = _mm512_fmadd_ps(right, right, squares[1]);
    }
  }
  *out.squares = _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1]));
}

// The upper `height` rows of a tile.
template <class Kind, int64_t height>
void multiplyRows(int64_t units, const float* a, const float* b, const TileOut& out, int64_t rows, int64_t columns, Ahead next) {
  constexpr int64_t ahead = 8 * tileColumns;
  if (out.isFar && !out.streams) fetchLines(out, rows);
  __m512 sum[height][tileVectors];
  MOE_UNROLL
  for (int64_t i = 0; i < height; i++) {
    MOE_UNROLL
    for (int64_t j = 0; j < tileVectors; j++) sum[i][j] = _mm512_setzero_ps();
  }
  for (int64_t unit = 0; unit < units; unit++) {
    __m512i columnsOfB[tileVectors];
    MOE_UNROLL
    for (int64_t j = 0; j < tileVectors; j++) {
      columnsOfB[j] = _mm512_loadu_si512(b + j * lanes);
      _mm_prefetch(reinterpret_cast<const char*>(b + ahead + j * lanes), _MM_HINT_T0);
    }
    MOE_UNROLL
    for (int64_t i = 0; i < height; i++) {
      MOE_UNROLL
      for (int64_t j = 0; j < tileVectors; j++) sum[i][j] = multiplyUnit(Kind{}, sum[i][j], a + i, columnsOfB[j]);
    }
    _mm_prefetch(next.at, _MM_HINT_T1);
    next.at += next.step;
    a += tileRows;
    b += tileColumns;
  }
  const __mmask16 low = firstLanes(columns), high = firstLanes(columns - lanes);
  if (out.squares) return storeWithSquares<height>(sum, out, rows, low, high);
  MOE_UNROLL
  for (int64_t i = 0; i < height; i++) {
    if (i < rows) {
      storeSums(out, i, 0, sum[i][0], low);
      if (high) storeSums(out, i, lanes, sum[i][1], high);
    }
  }
}

// The last rows of an expert rarely fill a tile: fewer rows take less time, and give the same sums.
template <class Kind>
void microkernel(int64_t units, const float* a, const float* b, const TileOut& out, int64_t rows, int64_t columns, Ahead next) {
  if (rows > 8) return multiplyRows<Kind, 12>(units, a, b, out, rows, columns, next);
  if (rows > 4) return multiplyRows<Kind, 8>(units, a, b, out, rows, columns, next);
  multiplyRows<Kind, 4>(units, a, b, out, rows, columns, next);
}

#else

template <class Kind>
void microkernel(int64_t units, const float* a, const float* b, const TileOut& out, int64_t rows, int64_t columns, Ahead) {
  Vec sum[tileRows][tileVectors];
  MOE_UNROLL
  for (int64_t i = 0; i < tileRows; i++) {
    MOE_UNROLL
    for (int64_t j = 0; j < tileVectors; j++) sum[i][j] = splat(0);
  }
  for (int64_t unit = 0; unit < units; unit++) {
    Vec columnsOfB[tileVectors];
    MOE_UNROLL
    for (int64_t j = 0; j < tileVectors; j++) columnsOfB[j] = load(b + j * lanes);
    MOE_UNROLL
    for (int64_t i = 0; i < tileRows; i++) {
      const Vec rowOfA = splat(a[i]);
      MOE_UNROLL
      for (int64_t j = 0; j < tileVectors; j++) sum[i][j] = sum[i][j] + rowOfA * columnsOfB[j];
    }
    a += tileRows;
    b += tileColumns;
  }
  float* c = static_cast<float*>(out.c);
  if (rows == tileRows && columns == tileColumns) {
    MOE_UNROLL
    for (int64_t i = 0; i < tileRows; i++) {
      MOE_UNROLL
      for (int64_t j = 0; j < tileVectors; j++) {
        const Vec value = out.add ? sum[i][j] + load(out.add + i * out.addStride + j * lanes) : sum[i][j];
        store(c + i * out.cStride + j * lanes, value);
      }
    }
    return;
  }
  float tile[tileRows * tileColumns];
  MOE_UNROLL
  for (int64_t i = 0; i < tileRows; i++) {
    MOE_UNROLL
    for (int64_t j = 0; j < tileVectors; j++) store(tile + i * tileColumns + j * lanes, sum[i][j]);
  }
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j++) {
      const float value = tile[i * tileColumns + j];
      c[i * out.cStride + j] = out.add ? value + out.add[i * out.addStride + j] : value;
    }
  }
}

#endif

// The part of `out` that begins at element (i, j).
inline TileOut partOf(const TileOut& out, int64_t i, int64_t j) {
  TileOut part = out;
  const int64_t at = i * out.cStride + j;
  part.c = out.half ? static_cast<void*>(static_cast<Half*>(out.c) + at) : static_cast<float*>(out.c) + at;
  if (out.add) part.add = out.add + i * out.addStride + j;
  if (out.squares) part.squares = out.squares + i / tileRows * out.squaresStride + j / tileColumns;
  return part;
}

// c (m × n) = a·b + add on this thread, from packed strips of `units`; bStripStride is the distance between strips of b.
template <class Kind>
void multiplyPacked(const float* a, const float* b, int64_t bStripStride, int64_t m, int64_t n, int64_t units, const TileOut& out) {
  for (int64_t j = 0; j < n; j += tileColumns, b += bStripStride) {
    for (int64_t i = 0; i < m; i += tileRows) {
      microkernel<Kind>(units, a + i * units, b, partOf(out, i, j), least(tileRows, m - i), least(tileColumns, n - j), {reinterpret_cast<const char*>(b), 0});
    }
  }
}

}  // namespace moe::MOE_KERNELS
