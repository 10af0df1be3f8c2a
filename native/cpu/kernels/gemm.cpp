// The microkernel, packing, and the tile queue of gemm(). B is packed once per call into shared memory (in chunks where
// it is large), A by each thread for its tile. Products with few rows read B where it is: packing it would cost more.
#include "gemm.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t packCapacity = 8 << 20;  // floats of packed B at a time
constexpr int64_t rowBlock = 8 * tileRows;
constexpr int64_t columnBlock = 512 / tileColumns * tileColumns;
constexpr int64_t fewRows = 4;
constexpr int64_t fewRowsColumns = 16;
constexpr int maxPieces = 64;

// C tile = Σ_k a[k]·b[k] + add, for the top left rows × columns of the tile.
void microkernel(int64_t depth, const float* a, const float* b, const float* add, float* c, int64_t cStride, int64_t rows, int64_t columns) {
  Vec sum[tileRows][tileVectors];
  MOE_UNROLL
  for (int64_t i = 0; i < tileRows; i++) {
    MOE_UNROLL
    for (int64_t j = 0; j < tileVectors; j++) sum[i][j] = splat(0);
  }
  for (int64_t k = 0; k < depth; k++) {
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
  if (rows == tileRows && columns == tileColumns) {
    MOE_UNROLL
    for (int64_t i = 0; i < tileRows; i++) {
      MOE_UNROLL
      for (int64_t j = 0; j < tileVectors; j++) {
        const int64_t at = i * cStride + j * lanes;
        store(c + at, add ? sum[i][j] + load(add + at) : sum[i][j]);
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
      c[i * cStride + j] = add ? value + add[i * cStride + j] : value;
    }
  }
}

// One strip of `width` rows (the first `count` real) × depth, as [k][width].
template <int64_t width>
void packStrip(float* MOE_RESTRICT to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  if (!from.kContiguous) {
    for (int64_t k = 0; k < depth; k++) {
      const int64_t row = from.rows ? from.rows[k0 + k] : k0 + k;
      const float* source = from.data + row * from.stride + first;
      for (int64_t i = 0; i < count; i++) to[k * width + i] = source[i];
      for (int64_t i = count; i < width; i++) to[k * width + i] = 0;
    }
    return;
  }
  // A cache line of each row at a time: many rows at a power-of-two stride would evict each other.
  for (int64_t begin = 0; begin < depth; begin += 16) {
    const int64_t length = least(16, depth - begin);
    float* block = to + begin * width;
    for (int64_t i = 0; i < width; i++) {
      if (i >= count) {
        for (int64_t k = 0; k < length; k++) block[k * width + i] = 0;
        continue;
      }
      const int64_t row = from.rows ? from.rows[first + i] : first + i;
      const float* source = from.data + row * from.stride + k0 + begin;
      for (int64_t k = 0; k < length; k++) block[k * width + i] = source[k];
    }
  }
}

// A range of columns of one product, with its B packed at `packed` (null: few rows, B is read in place).
struct Piece {
  const Product* product;
  int64_t firstColumn, columns;
  float* packed;
  int64_t firstTile;
};

struct TileSize {
  int64_t rows, columns;
};

int64_t tilesOf(const Piece& piece, TileSize size) {
  if (!piece.packed) return divideUp(piece.columns, fewRowsColumns);
  return divideUp(piece.product->m, size.rows) * divideUp(piece.columns, size.columns);
}

// Big tiles reuse more of what they pack; smaller ones keep all threads busy. No sum depends on the choice.
TileSize chooseTileSize(const Piece* pieces, int count, int threads) {
  TileSize size{rowBlock, columnBlock};
  for (;;) {
    int64_t tiles = 0;
    for (int i = 0; i < count; i++) tiles += tilesOf(pieces[i], size);
    const bool narrow = size.columns <= 4 * tileColumns;
    if (tiles >= 4 * threads || threads == 1 || (narrow && size.rows <= 2 * tileRows)) return size;
    if (narrow) size.rows = size.rows / 2;
    else size.columns = roundUp(size.columns / 2, tileColumns);
  }
}

// Dot products of every row of A with columns [begin, end) of B, B's k contiguous.
void multiplyFewRows(const Product& p, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; j++) {
    const float* b = p.b.data + (p.b.rows ? p.b.rows[j] : j) * p.b.stride;
    for (int64_t i = 0; i < p.m; i++) {
      const float* a = p.a.data + (p.a.rows ? p.a.rows[i] : i) * p.a.stride;
      const int64_t at = i * p.cStride + j;
      const float value = dot(a, b, p.k);
      p.c[at] = p.add ? value + p.add[at] : value;
    }
  }
}

void multiplyTile(const Piece& piece, TileSize size, int64_t tile, float* packedA) {
  const Product& p = *piece.product;
  if (!piece.packed) {
    const int64_t begin = piece.firstColumn + tile * fewRowsColumns;
    return multiplyFewRows(p, begin, least(piece.firstColumn + piece.columns, begin + fewRowsColumns));
  }
  const int64_t rowTiles = divideUp(p.m, size.rows);
  const int64_t firstRow = tile % rowTiles * size.rows, rows = least(size.rows, p.m - firstRow);
  const int64_t firstColumn = tile / rowTiles * size.columns, columns = least(size.columns, piece.columns - firstColumn);
  const float* b = piece.packed + firstColumn * p.k;
  const int64_t at = firstRow * p.cStride + piece.firstColumn + firstColumn;
  // No terms (an expert without tokens): the sum is the summand alone.
  if (p.k == 0) multiplyPacked(packedA, b, 0, rows, columns, 0, p.add ? p.add + at : nullptr, p.c + at, p.cStride);
  for (int64_t k = 0; k < p.k; k += depthBlock) {
    const int64_t depth = least(depthBlock, p.k - k);
    packRows(packedA, p.a, firstRow, rows, k, depth);
    const float* add = k > 0 ? p.c + at : p.add ? p.add + at : nullptr;
    multiplyPacked(packedA, b + k * tileColumns, p.k * tileColumns, rows, columns, depth, add, p.c + at, p.cStride);
  }
}

void runPieces(Piece* pieces, int count, int64_t panels, const Workspace& work, Pool& pool) {
  parallel(pool, panels, [&](int64_t panel, int) {
    int i = 0;
    for (;; i++) {
      const int64_t here = pieces[i].packed ? divideUp(pieces[i].columns, tileColumns) : 0;
      if (panel < here) break;
      panel -= here;
    }
    const Product& p = *pieces[i].product;
    const int64_t column = panel * tileColumns;
    packColumns(pieces[i].packed + column * p.k, p.b, pieces[i].firstColumn + column, least(tileColumns, pieces[i].columns - column), 0, p.k);
  });
  const TileSize size = chooseTileSize(pieces, count, pool.threads());
  int64_t tiles = 0;
  for (int i = 0; i < count; i++) {
    pieces[i].firstTile = tiles;
    tiles += tilesOf(pieces[i], size);
  }
  parallel(pool, tiles, [&](int64_t tile, int thread) {
    int i = count - 1;
    while (pieces[i].firstTile > tile) i--;
    multiplyTile(pieces[i], size, tile - pieces[i].firstTile, work.perThread + thread * work.perThreadFloats);
  });
}

}  // namespace

int64_t packedFloats(int64_t n, int64_t k) { return roundUp(n, tileColumns) * k; }

Need gemmNeed(int64_t bFloats, int64_t k) {
  return {least(bFloats, most(packCapacity, packedFloats(tileColumns, k))), roundUp(rowBlock, tileRows) * depthBlock};
}

void packRows(float* to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  for (int64_t i = 0; i < count; i += tileRows) packStrip<tileRows>(to + i * depth, from, first + i, least(tileRows, count - i), k0, depth);
}

void packColumns(float* to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth) {
  for (int64_t i = 0; i < count; i += tileColumns) packStrip<tileColumns>(to + i * depth, from, first + i, least(tileColumns, count - i), k0, depth);
}

void multiplyPacked(const float* a, const float* b, int64_t bStripStride, int64_t m, int64_t n, int64_t depth, const float* add,
                    float* c, int64_t cStride) {
  for (int64_t j = 0; j < n; j += tileColumns, b += bStripStride) {
    for (int64_t i = 0; i < m; i += tileRows) {
      const int64_t at = i * cStride + j;
      microkernel(depth, a + i * depth, b, add ? add + at : nullptr, c + at, cStride, least(tileRows, m - i), least(tileColumns, n - j));
    }
  }
}

void gemm(const Product* products, int64_t count, const Workspace& work, Pool& pool) {
  Piece pieces[maxPieces];
  int pieceCount = 0;
  int64_t used = 0, panels = 0;
  const auto flush = [&] {
    if (pieceCount > 0) runPieces(pieces, pieceCount, panels, work, pool);
    pieceCount = 0;
    used = panels = 0;
  };
  for (const Product* p = products; p < products + count; p++) {
    if (p->m == 0 || (p->k == 0 && p->add == p->c)) continue;
    const bool direct = p->m <= fewRows && p->a.kContiguous && p->b.kContiguous;
    for (int64_t column = 0; column < p->n;) {
      const int64_t fit = direct || p->k == 0 ? p->n : (work.sharedFloats - used) / (p->k * tileColumns) * tileColumns;
      if (fit <= 0 || pieceCount == maxPieces) {
        flush();
        continue;
      }
      const int64_t columns = least(fit, p->n - column);
      pieces[pieceCount++] = {p, column, columns, direct ? nullptr : work.shared + used, 0};
      if (!direct) {
        used += packedFloats(columns, p->k);
        panels += divideUp(columns, tileColumns);
      }
      column += columns;
    }
  }
  flush();
}

}  // namespace moe::MOE_KERNELS
