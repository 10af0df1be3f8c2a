// The tile queue of gemm(). B is packed once per call into shared memory (in chunks where it is large), A by each thread for
// its tile. Packing and multiplying share one queue: a product's B is packed while the one before it is multiplied, and a
// tile waits only for its own. Products with few rows read B where it is: packing it would cost more.
#include "gemm.h"

#include "microkernel.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t packCapacity = 4 << 20;  // floats of packed B at a time
constexpr int64_t depthUnits = 512;        // units of k between two visits of C
constexpr int64_t rowBlock = 8 * tileRows;
constexpr int64_t columnBlock = 512 / tileColumns * tileColumns;
constexpr int64_t fewRows = 4;
constexpr int64_t fewRowsColumns = 16;
constexpr int maxPieces = 64;

// A range of columns of one product, with its B at `packed` (null: few rows, B is read in place); `packs` if that is still to be done.
struct Piece {
  const Product* product;
  int64_t firstColumn, columns;
  const float* packed;
  bool packs;
};

// A run of the queue's tiles: the strips of B of a piece, or its tiles of C.
struct Segment {
  int piece;
  bool packs;
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
    if (tiles >= 8 * threads || threads == 1 || (narrow && size.rows <= 2 * tileRows)) return size;
    if (narrow || size.rows > 4 * tileRows) size.rows = size.rows / 2;
    else size.columns = roundUp(size.columns / 2, tileColumns);
  }
}

// Dot products of every row of A with columns [begin, end) of B, B's k contiguous; in float32 whatever A and C are stored as.
template <class A, class C>
void multiplyFewRows(const Product& p, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; j++) {
    const float* b = static_cast<const float*>(p.b.data) + rowOf(p.b, j) * p.b.stride;
    for (int64_t i = 0; i < p.m; i++) {
      const A* a = static_cast<const A*>(p.a.data) + rowOf(p.a, i) * p.a.stride;
      const int64_t at = i * p.cStride + j;
      const float value = dot(a, b, p.k);
      storeOne(static_cast<C*>(p.c) + at, p.add ? value + p.add[at] : value);
    }
  }
}

void multiplyFewRows(const Product& p, int64_t begin, int64_t end) {
#if MOE_BF16
  if (p.a.half && p.halfC) return multiplyFewRows<Half, Half>(p, begin, end);
  if (p.a.half) return multiplyFewRows<Half, float>(p, begin, end);
  if (p.halfC) return multiplyFewRows<float, Half>(p, begin, end);
#endif
  multiplyFewRows<float, float>(p, begin, end);
}

// Element (row, column) of C or of its summand.
TileOut outOf(const Product& p, int64_t row, int64_t column) {
  const int64_t at = row * p.cStride + column;
  void* c = p.halfC ? static_cast<void*>(static_cast<Half*>(p.c) + at) : static_cast<float*>(p.c) + at;
  return {c, p.halfC, p.cStride, p.add ? p.add + at : nullptr, p.cStride};
}

// Memory of one thread: a packed block of A, then a tile of sums for products whose C cannot hold them.
template <class Kind>
void multiplyTile(const Piece& piece, TileSize size, int64_t tile, float* memory) {
  const Product& p = *piece.product;
  if (!piece.packed) {
    const int64_t begin = piece.firstColumn + tile * fewRowsColumns;
    return multiplyFewRows(p, begin, least(piece.firstColumn + piece.columns, begin + fewRowsColumns));
  }
  const int64_t rowTiles = divideUp(p.m, size.rows), units = unitsOf<Kind>(p.k);
  const int64_t firstRow = tile % rowTiles * size.rows, rows = least(size.rows, p.m - firstRow);
  const int64_t firstColumn = tile / rowTiles * size.columns, columns = least(size.columns, piece.columns - firstColumn);
  const float* b = piece.packed + firstColumn * units;
  float* sums = memory + rowBlock * depthUnits;
  const TileOut out = outOf(p, firstRow, piece.firstColumn + firstColumn);
  // No terms (an expert without tokens): the sum is the summand alone.
  if (p.k == 0) multiplyPacked<Kind>(memory, b, 0, rows, columns, 0, out);
  for (int64_t unit = 0; unit < units; unit += depthUnits) {
    const int64_t here = least(depthUnits, units - unit), k = unit * Kind::perUnit;
    const bool isLast = unit + here == units;
    TileOut block = out;
    if (p.finish || (p.halfC && !isLast)) block.c = sums, block.half = false, block.cStride = columnBlock;
    if (unit > 0) block.add = p.finish || p.halfC ? sums : static_cast<const float*>(out.c), block.addStride = p.finish || p.halfC ? columnBlock : p.cStride;
    pack<Kind, tileRows>(memory, p.a, firstRow, rows, k, least(here * Kind::perUnit, p.k - k));
    multiplyPacked<Kind>(memory, b + unit * tileColumns, units * tileColumns, rows, columns, here, block);
  }
  if (p.finish) p.finish(p.context, firstRow, piece.firstColumn + firstColumn, rows, columns, sums, columnBlock);
}

// The order of the queue: pack 0, pack 1, tiles of 0, pack 2, tiles of 1, …
int orderSegments(const Piece* pieces, int count, TileSize size, Segment* segments, int64_t& tiles) {
  int made = 0;
  tiles = 0;
  const auto push = [&](int piece, bool packs, int64_t own) {
    if (own == 0) return;
    segments[made++] = {piece, packs, tiles};
    tiles += own;
  };
  for (int i = 0; i <= count; i++) {
    if (i < count && pieces[i].packs) push(i, true, divideUp(pieces[i].columns, tileColumns));
    if (i > 0) push(i - 1, false, tilesOf(pieces[i - 1], size));
  }
  return made;
}

template <class Kind>
void runPieces(const Piece* pieces, int count, const Workspace& work, Pool& pool) {
  const TileSize size = chooseTileSize(pieces, count, pool.threads());
  Segment segments[2 * maxPieces];
  int64_t tiles;
  const int made = orderSegments(pieces, count, size, segments, tiles);
  pool.clearCounts(count);
  parallel(pool, tiles, [&](int64_t tile, int thread) {
    int s = made - 1;
    while (segments[s].firstTile > tile) s--;
    const Piece& piece = pieces[segments[s].piece];
    const int64_t index = tile - segments[s].firstTile, k = piece.product->k;
    if (segments[s].packs) {
      const int64_t column = index * tileColumns;
      float* to = const_cast<float*>(piece.packed) + column * unitsOf<Kind>(k);
      pack<Kind, tileColumns>(to, piece.product->b, piece.firstColumn + column, least(tileColumns, piece.columns - column), 0, k);
      return pool.count(segments[s].piece);
    }
    if (piece.packs) pool.awaitCount(segments[s].piece, divideUp(piece.columns, tileColumns));
    multiplyTile<Kind>(piece, size, index, work.perThread + thread * work.perThreadFloats);
  });
}

template <class Kind>
void gemmOf(const Product* products, int64_t count, const Workspace& work, Pool& pool) {
  Piece pieces[maxPieces];
  int pieceCount = 0;
  int64_t used = 0;
  const auto flush = [&] {
    if (pieceCount > 0) runPieces<Kind>(pieces, pieceCount, work, pool);
    pieceCount = 0;
    used = 0;
  };
  for (const Product* p = products; p < products + count; p++) {
    if (p->m == 0 || (p->k == 0 && p->add == p->c)) continue;
    const bool direct = p->m <= fewRows && p->a.kContiguous && p->b.kContiguous && !p->b.half && !p->finish && !p->packedB;
    const int64_t units = unitsOf<Kind>(p->k);
    for (int64_t column = 0; column < p->n;) {
      const bool packs = !direct && !p->packedB && p->k > 0;
      const int64_t fit = packs ? (work.sharedFloats - used) / (units * tileColumns) * tileColumns : p->n;
      if (fit <= 0 || pieceCount == maxPieces) {
        flush();
        continue;
      }
      const int64_t columns = least(fit, p->n - column);
      pieces[pieceCount++] = {p, column, columns, direct ? nullptr : p->packedB ? p->packedB + column * units : work.shared + used, packs};
      if (packs) used += roundUp(columns, tileColumns) * units;
      column += columns;
    }
  }
  flush();
}

template <class Kind>
void packAll(float* to, const Operand& b, int64_t n, int64_t k, int64_t count, int64_t step, Pool& pool) {
  const int64_t units = unitsOf<Kind>(k), strips = divideUp(n, tileColumns);
  parallel(pool, count * strips, [&](int64_t tile, int) {
    const int64_t column = tile % strips * tileColumns, index = tile / strips;
    Operand from = b;
    from.data = b.half ? static_cast<const void*>(static_cast<const Half*>(b.data) + index * step) : static_cast<const float*>(b.data) + index * step;
    pack<Kind, tileColumns>(to + (index * strips * tileColumns + column) * units, from, column, least(tileColumns, n - column), 0, k);
  });
}

}  // namespace

int64_t packedFloats(bool mixed, int64_t n, int64_t k) { return roundUp(n, tileColumns) * (mixed ? unitsOf<Mixed>(k) : k); }

Need gemmNeed(bool mixed, int64_t bFloats, int64_t k) {
  return {least(bFloats, most(packCapacity, packedFloats(mixed, tileColumns, k))), rowBlock * depthUnits + rowBlock * columnBlock};
}

void packB(bool mixed, float* to, const Operand& b, int64_t n, int64_t k, int64_t count, int64_t step, Pool& pool) {
#if MOE_BF16
  if (mixed) return packAll<Mixed>(to, b, n, k, count, step, pool);
#endif
  (void)mixed;
  packAll<Float32>(to, b, n, k, count, step, pool);
}

const float* keptWeights(const Args& args, const Operand& b, int64_t n, int64_t k, int64_t count, int64_t step, int64_t rows, Pool& pool) {
  if (!args.packed || rows <= fewRows) return nullptr;
  if (!args.packed->isCurrent) packB(args.mixed, args.packed->data, b, n, k, count, step, pool);
  args.packed->isCurrent = true;
  return args.packed->data;
}

void gemm(const Product* products, int64_t count, bool mixed, const Workspace& work, Pool& pool) {
#if MOE_BF16
  if (mixed) return gemmOf<Mixed>(products, count, work, pool);
#endif
  (void)mixed;
  gemmOf<Float32>(products, count, work, pool);
}

}  // namespace moe::MOE_KERNELS
