// attentionBackward. One task owns a key-value head of a sequence with all query heads that read it, so every gradient
// has one owner and one order of summation. Probabilities come back from the saved logsumexp (arXiv 2205.14135, §B).
// All operands of a head are packed once; blocks of keys then walk the blocks of queries that see them.
#include "attention.h"
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

struct Heads {
  int64_t heads, kvHeads, width;
  int64_t qStride() const { return heads * width; }
  int64_t kStride() const { return kvHeads * width; }
};

// A thread's memory, cut up. Packed for the whole sequence: q and dO as rows and as columns (k over queries), keys and
// values as columns, keys as columns with k over keys. Then one block of scores.
struct Memory {
  float *qRows, *dORows, *qColumns, *dOColumns, *keyColumns, *valueColumns, *keyAcross;
  float *scores, *dScores, *p, *dS, *packed, *dK, *dV;
  int64_t floats;
};

Memory cut(bool mixed, float* memory, int64_t length, int64_t width) {
  const int64_t rows = roundUp(length, queryBlock);
  float* at = memory;
  const auto take = [&](int64_t floats) {
    float* const here = at;
    at += roundUp(floats, 16);
    return here;
  };
  Memory m;
  m.qRows = take(rows * width);
  m.dORows = take(rows * width);
  m.qColumns = take(packedFloats(mixed, width, length));
  m.dOColumns = take(packedFloats(mixed, width, length));
  m.keyColumns = take(packedFloats(mixed, length, width));
  m.valueColumns = take(packedFloats(mixed, length, width));
  m.keyAcross = take(packedFloats(mixed, width, length));
  m.scores = take(queryBlock * keyBlock);
  m.dScores = take(queryBlock * keyBlock);
  m.p = take(queryBlock * keyBlock);
  m.dS = take(queryBlock * keyBlock);
  m.packed = take(roundUp(most(queryBlock, keyBlock), tileRows) * most(queryBlock, keyBlock));
  m.dK = take(keyBlock * width);
  m.dV = take(keyBlock * width);
  m.floats = at - memory;
  return m;
}

// The argument i of a head: rows from token `first` on, columns of head `h`.
Operand headOperand(const Args& args, int i, int64_t first, int64_t stride, int64_t h, int64_t width, bool kContiguous) {
  return {elementOf(args, i, first * stride + h * width), stride, kContiguous, nullptr, isHalf(args, i)};
}

// A row of scores -> probabilities p and dS = p·(dP − delta)·scale, for the first `visible` keys; zero up to `keys`.
template <class Row>
void softmaxBackward(const float* scores, const float* dP, Row* p, Row* dS, int64_t visible, int64_t keys, float scale, float lse, float delta) {
  int64_t j = 0;
  for (; j + lanes <= visible; j += lanes) {
    const Vec probability = exponential(load(scores + j) * splat(scale) - splat(lse));
    store(p + j, probability);
    store(dS + j, probability * (load(dP + j) - splat(delta)) * splat(scale));
  }
  if (j < visible) {
    const int64_t rest = visible - j;
    const Vec probability = exponential(loadPart(scores + j, rest, 0) * splat(scale) - splat(lse));
    storePart(p + j, probability, rest);
    storePart(dS + j, probability * (loadPart(dP + j, rest, 0) - splat(delta)) * splat(scale), rest);
  }
  memset(p + visible, 0, (keys - visible) * sizeof(Row));
  memset(dS + visible, 0, (keys - visible) * sizeof(Row));
}

template <class Kind>
struct HeadTask {
  typedef typename RowOf<Kind>::Type Row;
  const Args& args;
  Heads shape;
  const float *lse, *delta;
  int64_t first, length;  // tokens of the sequence
  Memory m;

  // sums (strips of `count` vectors of `of`) += ofᵀ·columns over the queries [from, from + rows) of a block at `query`.
  void addOverQueries(const Row* of, int64_t count, int64_t from, int64_t rows, const float* columns, int64_t query, float* sums, bool isFirst) const {
    const int64_t width = shape.width, units = unitsOf<Kind>(rows - from);
    pack<Kind, tileRows>(m.packed, rowOperand<Kind>(of, keyBlock, false), 0, count, from, rows - from);
    const TileOut out = {sums, false, width, isFirst ? nullptr : sums, width};
    multiplyPacked<Kind>(m.packed, columns + unitsOf<Kind>(query + from) * tileColumns, unitsOf<Kind>(length) * tileColumns, count, width, units, out);
  }

  // One block of queries of head h against one block of keys.
  void block(int64_t h, int64_t query, int64_t key, int64_t keys, bool isFirst) const {
    const int64_t width = shape.width, units = unitsOf<Kind>(width), rows = least(queryBlock, length - query), stride = shape.qStride();
    const float scale = 1 / sqrtf(static_cast<float>(width));
    Row *p = reinterpret_cast<Row*>(m.p), *dS = reinterpret_cast<Row*>(m.dS);
    // The first query of the block that sees any of these keys, at a whole unit.
    const int64_t from = most(0, key - query) / Kind::perUnit * Kind::perUnit;
    float* dQ = f32(args, 0) + (first + query) * stride + h * width;
    for (int64_t i = 0; i < rows; i += tileRows) {
      const int64_t count = least(tileRows, rows - i), here = most(0, least(keys, query + i + count - key));
      if (here == 0) continue;
      const TileOut scores = {m.scores + i * keyBlock, false, keyBlock, nullptr, 0}, dScores = {m.dScores + i * keyBlock, false, keyBlock, nullptr, 0};
      multiplyPacked<Kind>(m.qRows + (query + i) * units, m.keyColumns + key * units, units * tileColumns, count, here, units, scores);
      multiplyPacked<Kind>(m.dORows + (query + i) * units, m.valueColumns + key * units, units * tileColumns, count, here, units, dScores);
      for (int64_t r = i; r < i + count; r++) {
        const int64_t at = (first + query + r) * shape.heads + h, row = r * keyBlock;
        softmaxBackward(m.scores + row, m.dScores + row, p + row, dS + row, most(0, least(keys, query + r + 1 - key)), keys, scale, lse[at], delta[at]);
      }
      pack<Kind, tileRows>(m.packed, rowOperand<Kind>(dS, keyBlock, true), i, count, 0, here);
      const TileOut dQOut = {dQ + i * stride, false, stride, key > 0 ? dQ + i * stride : nullptr, stride};
      multiplyPacked<Kind>(m.packed, m.keyAcross + unitsOf<Kind>(key) * tileColumns, unitsOf<Kind>(length) * tileColumns, count, width, unitsOf<Kind>(here), dQOut);
    }
    // Strips of queries before `from` that were skipped above hold nothing: they are not read.
    addOverQueries(p, keys, from, rows, m.dOColumns, query, m.dV, isFirst);
    addOverQueries(dS, keys, from, rows, m.qColumns, query, m.dK, isFirst);
  }

  void packQueries(int64_t h) const {
    const int64_t width = shape.width, stride = shape.qStride();
    pack<Kind, tileRows>(m.qRows, headOperand(args, 4, first, stride, h, width, true), 0, length, 0, width);
    pack<Kind, tileRows>(m.dORows, headOperand(args, 3, first, stride, h, width, true), 0, length, 0, width);
    pack<Kind, tileColumns>(m.qColumns, headOperand(args, 4, first, stride, h, width, false), 0, width, 0, length);
    pack<Kind, tileColumns>(m.dOColumns, headOperand(args, 3, first, stride, h, width, false), 0, width, 0, length);
  }

  template <class To>
  void copyOut(To* to, const float* from, int64_t keys) const {
    for (int64_t i = 0; i < keys; i++) {
      for (int64_t c = 0; c < shape.width; c++) storeOne(to + i * shape.kStride() + c, from[i * shape.width + c]);
    }
  }

  // Gradients of the keys and values of head g, and of the queries that read it.
  void run(int64_t g) const {
    const int64_t width = shape.width, stride = shape.kStride(), group = shape.heads / shape.kvHeads;
    pack<Kind, tileColumns>(m.keyColumns, headOperand(args, 5, first, stride, g, width, true), 0, length, 0, width);
    pack<Kind, tileColumns>(m.valueColumns, headOperand(args, 6, first, stride, g, width, true), 0, length, 0, width);
    pack<Kind, tileColumns>(m.keyAcross, headOperand(args, 5, first, stride, g, width, false), 0, width, 0, length);
    if (group == 1) packQueries(g);
    for (int64_t key = 0; key < length; key += keyBlock) {
      const int64_t keys = least(keyBlock, length - key);
      bool isFirst = true;
      for (int64_t h = g * group; h < (g + 1) * group; h++) {
        if (group > 1) packQueries(h);
        for (int64_t query = key / queryBlock * queryBlock; query < length; query += queryBlock) {
          block(h, query, key, keys, isFirst);
          isFirst = false;
        }
      }
      const int64_t at = (first + key) * stride + g * width;
      copyOut(f32(args, 1) + at, m.dK, keys);
      withElements(args, 2, [&](auto* dV) { copyOut(dV + at, m.dV, keys); });
    }
  }
};

// delta (T H) = Σ dO·o per head.
void dotsOfOutput(const Args& args, Pool& pool, float* delta, int64_t tokens, const Heads& shape) {
  const int64_t width = shape.width;
  parallelRanges(pool, tokens, shape.heads * width, [&](int64_t begin, int64_t end) {
    if (!args.mixed) {
      const float *dO = f32(args, 3), *o = f32(args, 7);
      for (int64_t i = begin * shape.heads; i < end * shape.heads; i++) delta[i] = static_cast<float>(preciseDot(dO + i * width, o + i * width, width));
      return;
    }
    withElements(args, 3, [&](const auto* dO) {
      withElements(args, 7, [&](const auto* o) {
        for (int64_t i = begin * shape.heads; i < end * shape.heads; i++) delta[i] = dot(dO + i * width, o + i * width, width);
      });
    });
  });
}

template <class Kind>
void backward(const Args& args, Pool& pool, const Heads& shape, const float* delta) {
  const int64_t tokens = dim(args, 0, 0), sequence = static_cast<int64_t>(args.attrs[2]);
  parallel(pool, divideUp(tokens, sequence) * shape.kvHeads, [&](int64_t tile, int thread) {
    const int64_t first = tile / shape.kvHeads * sequence, length = least(sequence, tokens - first);
    const Memory memory = cut(args.mixed, threadMemory(args, thread), length, shape.width);
    HeadTask<Kind>{args, shape, f32(args, 8), delta, first, length, memory}.run(tile % shape.kvHeads);
  });
}

}  // namespace

Need attentionBackwardNeed(const Args& args) {
  const int64_t heads = static_cast<int64_t>(args.attrs[0]);
  return {dim(args, 0, 0) * heads, cut(args.mixed, nullptr, static_cast<int64_t>(args.attrs[2]), dim(args, 0, 1) / heads).floats};
}

// dQ (T H·C), dK, dV (T G·C) from dO, q (T H·C), k, v (T G·C), o (T H·C), lse (T H); attributes H, G, sequence.
void attentionBackward(const Args& args, Pool& pool) {
  const int64_t tokens = dim(args, 0, 0), heads = static_cast<int64_t>(args.attrs[0]);
  const Heads shape = {heads, static_cast<int64_t>(args.attrs[1]), dim(args, 0, 1) / heads};
  float* delta = args.work.shared;
  dotsOfOutput(args, pool, delta, tokens, shape);
#if MOE_BF16
  if (args.mixed) return backward<Mixed>(args, pool, shape, delta);
#endif
  backward<Float32>(args, pool, shape, delta);
}

}  // namespace moe::MOE_KERNELS
