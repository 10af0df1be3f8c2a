// attentionForward, kvAppendForward, and the blockwise attention behind attentionCachedForward.
#include "attention.h"

#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

// Running maximum and sum of one query's softmax.
struct Softmax {
  float top, sum;
};

// Turns scores [0, keys), of which the first `visible` count, into exponentials, zero beyond; rescales what came before.
template <class Row>
void softmaxStep(const float* scores, Row* p, int64_t visible, int64_t keys, float scale, Softmax& state, float* o, int64_t width) {
  memset(p + visible, 0, (keys - visible) * sizeof(Row));
  if (visible == 0) return;
  const float top = largest(scores, visible) * scale;
  if (!(top <= state.top)) {
    const float shrink = expf(state.top - top);
    state.top = top;
    state.sum *= shrink;
    for (int64_t i = 0; i < width; i++) o[i] *= shrink;
  }
  state.sum += exponentials(p, scores, visible, scale, state.top);
}

template <class Out>
void finishRow(Out* out, const float* o, float share, int64_t width) {
  int64_t c = 0;
  for (; c + lanes <= width; c += lanes) store(out + c, load(o + c) * splat(share));
  for (; c < width; c++) storeOne(out + c, o[c] * share);
}

// Only strips of queries that see any of a strip of keys are multiplied.
template <class Kind>
void attendBlocks(const QueryBlock& block, const PackedHead& head, float* memory) {
  typedef typename RowOf<Kind>::Type Row;
  const int64_t width = block.width, units = unitsOf<Kind>(width);
  const float scale = 1 / sqrtf(static_cast<float>(width));
  float *packedQ = memory, *scores = packedQ + queryBlock * width, *packedP = scores + queryBlock * keyBlock, *o = packedP + queryBlock * keyBlock;
  Row* p = reinterpret_cast<Row*>(o + queryBlock * roundUp(width, lanes));
  Softmax state[queryBlock];
  int64_t seen[queryBlock / tileRows] = {}, longest = 0;
  for (int64_t i = 0; i < block.count; i++) {
    state[i] = {-INFINITY, 0};
    seen[i / tileRows] = most(seen[i / tileRows], block.visible[i]);
    longest = most(longest, block.visible[i]);
  }
  memset(o, 0, block.count * width * sizeof(float));
  pack<Kind, tileRows>(packedQ, block.q, 0, block.count, 0, width);
  for (int64_t first = 0; first < longest; first += keyBlock) {
    const int64_t keys = least(keyBlock, longest - first);
    for (int64_t i = 0; i < block.count; i += tileRows) {
      const int64_t rows = least(tileRows, block.count - i), here = most(0, least(keys, seen[i / tileRows] - first));
      if (here == 0) continue;
      const TileOut scoresOut = {scores + i * keyBlock, false, keyBlock, nullptr, 0};
      multiplyPacked<Kind>(packedQ + i * units, head.k + first * units, units * tileColumns, rows, here, units, scoresOut);
      for (int64_t r = i; r < i + rows; r++) {
        softmaxStep(scores + r * keyBlock, p + r * keyBlock, most(0, least(here, block.visible[r] - first)), here, scale, state[r], o + r * width, width);
      }
      pack<Kind, tileRows>(packedP, rowOperand<Kind>(p, keyBlock, true), i, rows, 0, here);
      const TileOut sumsOut = {o + i * width, false, width, o + i * width, width};
      multiplyPacked<Kind>(packedP, head.v + unitsOf<Kind>(first) * tileColumns, unitsOf<Kind>(head.keys) * tileColumns, rows, width, unitsOf<Kind>(here), sumsOut);
    }
  }
  for (int64_t i = 0; i < block.count; i++) {
    const float share = block.visible[i] > 0 ? 1 / state[i].sum : 0;
#if MOE_BF16
    if (block.halfO) finishRow(static_cast<Half*>(block.o) + i * block.oStride, o + i * width, share, width);
    else
#endif
      finishRow(static_cast<float*>(block.o) + i * block.oStride, o + i * width, share, width);
    if (block.lse) block.lse[i * block.lseStride] = state[i].top + logf(state[i].sum);
  }
}

template <class Kind>
void packHeadOf(float* to, const Operand& k, const Operand& v, int64_t keys, int64_t width) {
  pack<Kind, tileColumns>(to, k, 0, keys, 0, width);
  pack<Kind, tileColumns>(to + roundUp(keys, tileColumns) * unitsOf<Kind>(width), v, 0, width, 0, keys);
}

}  // namespace

int64_t packedHeadFloats(bool mixed, int64_t keys, int64_t width) { return packedFloats(mixed, keys, width) + packedFloats(mixed, width, keys); }

int64_t attendFloats(int64_t width) { return queryBlock * (width + 3 * keyBlock + roundUp(width, lanes)); }

PackedHead packedHead(bool mixed, const float* from, int64_t keys, int64_t width) { return {from, from + packedFloats(mixed, keys, width), keys}; }

void packHead(bool mixed, float* to, const Operand& k, const Operand& v, int64_t keys, int64_t width) {
#if MOE_BF16
  if (mixed) return packHeadOf<Mixed>(to, k, v, keys, width);
#endif
  (void)mixed;
  packHeadOf<Float32>(to, k, v, keys, width);
}

void attend(bool mixed, const QueryBlock& block, const PackedHead& head, float* memory) {
#if MOE_BF16
  if (mixed) return attendBlocks<Mixed>(block, head, memory);
#endif
  (void)mixed;
  attendBlocks<Float32>(block, head, memory);
}

Need attentionForwardNeed(const Args& args) {
  const int64_t tokens = dim(args, 0, 0), heads = static_cast<int64_t>(args.attrs[0]), kvHeads = static_cast<int64_t>(args.attrs[1]);
  const int64_t sequence = static_cast<int64_t>(args.attrs[2]), width = dim(args, 0, 1) / heads;
  return {divideUp(tokens, sequence) * kvHeads * packedHeadFloats(args.mixed, sequence, width), attendFloats(width)};
}

// o (T H·C), lse (T H) from q (T H·C), k, v (T G·C); attributes H, G, sequence. Tiles: blocks of queries of one head.
void attentionForward(const Args& args, Pool& pool) {
  float* lse = f32(args, 1);
  const int64_t tokens = dim(args, 0, 0), heads = static_cast<int64_t>(args.attrs[0]), kvHeads = static_cast<int64_t>(args.attrs[1]);
  const int64_t sequence = static_cast<int64_t>(args.attrs[2]), width = dim(args, 0, 1) / heads;
  const int64_t sequences = divideUp(tokens, sequence), blocks = divideUp(sequence, queryBlock);
  const int64_t headFloats = packedHeadFloats(args.mixed, sequence, width);
  const auto lengthOf = [&](int64_t s) { return least(sequence, tokens - s * sequence); };
  // Rows of tensor i from element `at` on.
  const auto rowsAt = [&](int i, int64_t at, int64_t stride) { return Operand{elementOf(args, i, at), stride, true, nullptr, isHalf(args, i)}; };
  parallel(pool, sequences * kvHeads, [&](int64_t tile, int) {
    const int64_t s = tile / kvHeads, stride = kvHeads * width, at = s * sequence * stride + tile % kvHeads * width;
    Operand v = rowsAt(4, at, stride);
    v.kContiguous = false;
    packHead(args.mixed, args.work.shared + tile * headFloats, rowsAt(3, at, stride), v, lengthOf(s), width);
  });
  parallel(pool, sequences * heads * blocks, [&](int64_t tile, int thread) {
    // The last blocks of a sequence see most keys: they go first, so that no thread ends with the longest.
    const int64_t block = blocks - 1 - tile / (sequences * heads), s = tile / heads % sequences, h = tile % heads;
    const int64_t first = block * queryBlock, length = lengthOf(s), count = least(queryBlock, length - first);
    if (count <= 0) return;
    const float* packed = args.work.shared + (s * kvHeads + h * kvHeads / heads) * headFloats;
    const int64_t token = s * sequence + first, stride = heads * width, at = token * stride + h * width;
    int64_t visible[queryBlock];
    for (int64_t i = 0; i < count; i++) visible[i] = first + i + 1;
    const QueryBlock queries = {rowsAt(2, at, stride), elementOf(args, 0, at), isHalf(args, 0), lse + token * heads + h, count, stride, heads, width, visible};
    attend(args.mixed, queries, packedHead(args.mixed, packed, length, width), threadMemory(args, thread));
  });
}

// cacheK, cacheV (P W) at rows positions (T) = k, v (T W).
void kvAppendForward(const Args& args, Pool& pool) {
  const int32_t* positions = i32(args, 4);
  const int64_t rows = dim(args, 0, 0), tokens = dim(args, 2, 0), width = dim(args, 2, 1);
  for (int64_t t = 0; t < tokens; t++) {
    if (positions[t] < 0) continue;
    if (positions[t] >= rows) return pool.fail("positions", t, positions[t], rows);
    memcpy(f32(args, 0) + positions[t] * width, f32(args, 2) + t * width, width * sizeof(float));
    memcpy(f32(args, 1) + positions[t] * width, f32(args, 3) + t * width, width * sizeof(float));
  }
}

}  // namespace moe::MOE_KERNELS
