// The tile queue of gemm(). Three ways to a tile of C: `shared`: B is packed once per call into shared memory (in chunks where
// it is large), or was packed before, and a tile packs its rows of A. `own`: where all of a product's A fits in a thread's
// memory, a thread packs that once and then each strip of B just before it multiplies it, fetching the next one meanwhile:
// packed weights never leave its cache. `few`: products with few rows read B where it is, packing it would cost more.
// Packing and multiplying share one queue: a product's B is packed while the one before it is multiplied.
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
constexpr int64_t ownRowsFloats = 288 << 10;  // of a packed A that a thread keeps for its own tiles: about what its cache holds
constexpr int64_t ownStripUnits = 2048;
constexpr int64_t lineBytes = 64;
constexpr int64_t sharedTilesPerThread = 8, ownTilesPerThread = 4;
constexpr int maxPieces = 64;

struct TileSize {
  int64_t rows, columns;
};

enum class Way { few, own, shared };

// A range of columns of one product, computed in tiles of `size`; `shared` with its B at `packed`, which is still to be packed if `packs`.
struct Piece {
  const Product* product;
  int64_t firstColumn, columns;
  Way way;
  const float* packed;
  bool packs;
  TileSize size;
};

// A run of the queue's tiles: the strips of B of a piece, or its tiles of C.
struct Segment {
  int piece;
  bool packs;
  int64_t firstTile;
};

// Memory of one thread.
struct ThreadMemory {
  const Product** packedOf;  // the `own` product whose A is at `rows`
  float *rows, *strip, *sums;
};

constexpr int64_t headerFloats = 16, stripFloats = ownStripUnits * tileColumns, sumsFloats = rowBlock * columnBlock;
constexpr int64_t perThreadFloats = headerFloats + ownRowsFloats + stripFloats + sumsFloats;
static_assert(ownRowsFloats >= rowBlock * depthUnits, "a shared tile packs a block of A");

ThreadMemory memoryOf(const Workspace& work, int64_t thread) {
  float* memory = work.perThread + thread * work.perThreadFloats;
  float* rows = memory + headerFloats;
  return {reinterpret_cast<const Product**>(memory), rows, rows + ownRowsFloats, rows + ownRowsFloats + stripFloats};
}

int64_t tilesOf(const Piece& piece) { return divideUp(piece.product->m, piece.size.rows) * divideUp(piece.columns, piece.size.columns); }

// The largest tiles, or smaller ones: `limit` bounds rows · columns · k, as far as that leaves a tile worth its packing.
TileSize tileSizeOf(const Piece& piece, int64_t limit) {
  const Product& p = *piece.product;
  const bool isOwn = piece.way == Way::own;
  TileSize size = isOwn ? TileSize{p.m, roundUp(piece.columns, tileColumns)} : TileSize{rowBlock, columnBlock};
  while (least(size.rows, p.m) * least(size.columns, piece.columns) * p.k > limit) {
    const bool isNarrow = size.columns <= (isOwn ? 1 : 4) * tileColumns;
    if (isNarrow && (isOwn || size.rows <= 2 * tileRows)) break;
    if (!isOwn && (isNarrow || size.rows > 4 * tileRows)) size.rows /= 2;
    else size.columns = roundUp(size.columns / 2, tileColumns);
  }
  return size;
}

// Big tiles reuse more of what they pack; smaller ones keep all threads busy to the end: a tile is a small part of what is left
// when its turn comes. No sum depends on the choice.
void chooseTileSizes(Piece* pieces, int count, int threads) {
  int64_t left = 0;
  for (int i = count - 1; i >= 0; i--) {
    Piece& piece = pieces[i];
    left += piece.product->m * piece.columns * piece.product->k;
    const int64_t tiles = threads * (piece.way == Way::own ? ownTilesPerThread : sharedTilesPerThread);
    piece.size = piece.way == Way::few ? TileSize{piece.product->m, fewRowsColumns} : tileSizeOf(piece, threads == 1 ? left : left / tiles);
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
  const TileOut all = {p.c, p.halfC, p.cStride, p.add, p.cStride, true, p.streams && !p.add && !p.halfC && p.cStride % lanes == 0 && reinterpret_cast<uintptr_t>(p.c) % 64 == 0, p.squares, divideUp(p.n, tileColumns)};
  return partOf(all, row, column);
}

// `out` for the units from `unit` on of a sum that is made in parts: they meet in C, or at `sums` where C cannot hold them.
template <class Kind>
TileOut partialOut(const Product& p, TileOut out, int64_t unit, float* sums, int64_t sumsStride) {
  if (unitsOf<Kind>(p.k) > depthUnits) out.streams = false;
  const bool isLast = unit + depthUnits >= unitsOf<Kind>(p.k), apart = p.finish || p.halfC;
  if (!isLast) out.squares = nullptr;
  if (unit > 0) out.add = apart ? sums : static_cast<const float*>(out.c), out.addStride = apart ? sumsStride : p.cStride;
  if (p.finish || (p.halfC && !isLast)) out.c = sums, out.half = false, out.cStride = sumsStride, out.isFar = false;
  return out;
}

template <class Kind>
void multiplyShared(const Piece& piece, int64_t firstRow, int64_t firstColumn, const ThreadMemory& memory) {
  const Product& p = *piece.product;
  const int64_t units = unitsOf<Kind>(p.k), rows = least(piece.size.rows, p.m - firstRow), columns = least(piece.size.columns, piece.columns - firstColumn);
  const float* b = piece.packed + firstColumn * units;
  const TileOut out = outOf(p, firstRow, piece.firstColumn + firstColumn);
  // No terms (an expert without tokens): the sum is the summand alone.
  if (p.k == 0) multiplyPacked<Kind>(memory.rows, b, 0, rows, columns, 0, out);
  for (int64_t unit = 0; unit < units; unit += depthUnits) {
    const int64_t here = least(depthUnits, units - unit), k = unit * Kind::perUnit;
    pack<Kind, tileRows>(memory.rows, p.a, firstRow, rows, k, least(here * Kind::perUnit, p.k - k));
    multiplyPacked<Kind>(memory.rows, b + unit * tileColumns, units * tileColumns, rows, columns, here, partialOut<Kind>(p, out, unit, memory.sums, columnBlock));
  }
  if (p.finish) p.finish(p.context, firstRow, piece.firstColumn + firstColumn, rows, columns, memory.sums, columnBlock);
}

// The strip of B that a thread packs next: how many lines it has in memory, and those from `line` on. What is past its end is harmless.
struct NextStrip {
  const Product* product;
  int64_t column;

  int64_t elementBytes() const { return product->b.half ? 2 : 4; }
  int64_t lines() const { return product ? divideUp(tileColumns * elementBytes(), lineBytes) * product->k : 0; }
  Ahead from(int64_t line) const {
    const Operand& b = product->b;
    const char* data = static_cast<const char*>(b.data);
    if (b.kContiguous) return {data + column * b.stride * elementBytes() + line * lineBytes, lineBytes};
    return {data + (line % product->k * b.stride + column) * elementBytes() + line / product->k * lineBytes, b.stride * elementBytes()};
  }
};

// A tile of all rows.
template <class Kind>
void multiplyOwn(const Piece& piece, int64_t firstColumn, const NextStrip& afterTile, const ThreadMemory& memory) {
  const Product& p = *piece.product;
  const int64_t units = unitsOf<Kind>(p.k), end = least(piece.columns, firstColumn + piece.size.columns);
  const int64_t paddedRows = roundUp(p.m, tileRows);
  if (*memory.packedOf != &p) {
    for (int64_t unit = 0; unit < units; unit += depthUnits) {
      const int64_t here = least(depthUnits, units - unit), k = unit * Kind::perUnit;
      pack<Kind, tileRows>(memory.rows + unit * paddedRows, p.a, 0, p.m, k, least(here * Kind::perUnit, p.k - k));
    }
    *memory.packedOf = &p;
  }
  for (int64_t column = firstColumn; column < end; column += tileColumns) {
    const int64_t columns = least(tileColumns, end - column), j = piece.firstColumn + column;
    pack<Kind, tileColumns>(memory.strip, p.b, j, columns, 0, p.k);
    const NextStrip next = column + tileColumns < end ? NextStrip{&p, j + tileColumns} : afterTile;
    const Ahead nothing = {reinterpret_cast<const char*>(memory.strip), 0};
    const TileOut out = outOf(p, 0, j);
    int64_t fetched = 0;
    for (int64_t unit = 0; unit < units; unit += depthUnits) {
      const int64_t here = least(depthUnits, units - unit);
      const TileOut block = partialOut<Kind>(p, out, unit, memory.sums, tileColumns);
      for (int64_t i = 0; i < p.m; i += tileRows, fetched += here) {
        const Ahead ahead = fetched < next.lines() ? next.from(fetched) : nothing;
        microkernel<Kind>(here, memory.rows + unit * paddedRows + i * here, memory.strip + unit * tileColumns, partOf(block, i, 0), least(tileRows, p.m - i), columns, ahead);
      }
    }
  }
}

// The order of the queue: pack 0, pack 1, tiles of 0, pack 2, tiles of 1, …
int orderSegments(const Piece* pieces, int count, Segment* segments, int64_t& tiles) {
  int made = 0;
  tiles = 0;
  const auto push = [&](int piece, bool packs, int64_t own) {
    if (own == 0) return;
    segments[made++] = {piece, packs, tiles};
    tiles += own;
  };
  for (int i = 0; i <= count; i++) {
    if (i < count && pieces[i].packs) push(i, true, divideUp(pieces[i].columns, tileColumns));
    if (i > 0) push(i - 1, false, tilesOf(pieces[i - 1]));
  }
  return made;
}

template <class Kind>
void runPieces(Piece* pieces, int count, const Workspace& work, Pool& pool) {
  chooseTileSizes(pieces, count, pool.threads());
  Segment segments[2 * maxPieces];
  int64_t tiles;
  const int made = orderSegments(pieces, count, segments, tiles);
  pool.clearCounts(count);
  for (int thread = 0; thread < pool.threads(); thread++) *memoryOf(work, thread).packedOf = nullptr;
  const auto segmentOf = [&](int64_t tile) {
    int s = made - 1;
    while (segments[s].firstTile > tile) s--;
    return segments[s];
  };
  parallel(pool, tiles, [&](int64_t tile, int thread) {
    const Segment segment = segmentOf(tile);
    const Piece& piece = pieces[segment.piece];
    const Product& p = *piece.product;
    const int64_t index = tile - segment.firstTile;
    const ThreadMemory memory = memoryOf(work, thread);
    if (segment.packs) {
      const int64_t column = index * tileColumns;
      float* to = const_cast<float*>(piece.packed) + column * unitsOf<Kind>(p.k);
      pack<Kind, tileColumns>(to, p.b, piece.firstColumn + column, least(tileColumns, piece.columns - column), 0, p.k);
      return pool.count(segment.piece);
    }
    const int64_t rowTiles = divideUp(p.m, piece.size.rows), row = index % rowTiles * piece.size.rows, column = index / rowTiles * piece.size.columns;
    if (piece.way == Way::few) return multiplyFewRows(p, piece.firstColumn + column, piece.firstColumn + least(piece.columns, column + piece.size.columns));
    if (piece.way == Way::own) {
      // Threads take turns, so that this one will probably get the tile `threads` further on.
      const int64_t soon = tile + pool.threads();
      const Segment after = segmentOf(least(soon, tiles - 1));
      const Piece& next = pieces[after.piece];
      NextStrip strip = {nullptr, 0};
      if (soon < tiles && next.way == Way::own) strip = {next.product, next.firstColumn + (soon - after.firstTile) * next.size.columns};
      return multiplyOwn<Kind>(piece, column, strip, memory);
    }
    if (piece.packs) pool.awaitCount(segment.piece, divideUp(piece.columns, tileColumns));
    multiplyShared<Kind>(piece, row, column, memory);
  });
}

template <class Kind>
Way wayOf(const Product& p) {
  if (p.packedB || p.finish || p.k == 0) return Way::shared;
  if (p.m <= fewRows && p.a.kContiguous && p.b.kContiguous && !p.b.half) return Way::few;
  const int64_t units = unitsOf<Kind>(p.k);
  const bool fits = units <= ownStripUnits && roundUp(p.m, tileRows) * units <= ownRowsFloats && (units <= depthUnits || !p.halfC || p.m * tileColumns <= sumsFloats);
  return fits ? Way::own : Way::shared;
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
    const Way way = wayOf<Kind>(*p);
    const int64_t units = unitsOf<Kind>(p->k);
    for (int64_t column = 0; column < p->n;) {
      const bool packs = way == Way::shared && !p->packedB && p->k > 0;
      const int64_t fit = packs ? (work.sharedFloats - used) / (units * tileColumns) * tileColumns : p->n;
      if (fit <= 0 || pieceCount == maxPieces) {
        flush();
        continue;
      }
      const int64_t columns = least(fit, p->n - column);
      pieces[pieceCount++] = {p, column, columns, way, p->packedB ? p->packedB + column * units : work.shared + used, packs, {}};
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
  return {least(bFloats, most(packCapacity, packedFloats(mixed, tileColumns, k))), perThreadFloats};
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
