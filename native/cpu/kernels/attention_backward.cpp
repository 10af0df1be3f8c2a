// attentionBackward. One task owns a key-value head of a sequence with all query heads that read it, so every gradient
// has one owner and one order of summation. Probabilities come back from the saved logsumexp (arXiv 2205.14135, §B).
#include "attention.h"
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

struct Backward {
  float *dQ, *dK, *dV;
  const float *dO, *q, *k, *v, *lse, *delta;
  int64_t heads, kvHeads, width;
  int64_t qStride() const { return heads * width; }
  int64_t kStride() const { return kvHeads * width; }
};

// A thread's memory, cut up.
struct Memory {
  float *scores, *dScores, *packedRows, *packedColumns, *keyColumns, *valueColumns, *keyRows;
};

int64_t rowFloats(int64_t width) { return most(roundUp(most(queryBlock, keyBlock), tileRows) * most(width, most(queryBlock, keyBlock)), 1); }

int64_t memoryFloats(int64_t width) {
  return 2 * queryBlock * keyBlock + rowFloats(width) + packedFloats(width, queryBlock) + 2 * packedFloats(keyBlock, width) + packedFloats(width, keyBlock);
}

Memory cut(float* memory, int64_t width) {
  Memory m;
  m.scores = memory;
  m.dScores = m.scores + queryBlock * keyBlock;
  m.packedRows = m.dScores + queryBlock * keyBlock;
  m.packedColumns = m.packedRows + rowFloats(width);
  m.keyColumns = m.packedColumns + packedFloats(width, queryBlock);
  m.valueColumns = m.keyColumns + packedFloats(keyBlock, width);
  m.keyRows = m.valueColumns + packedFloats(keyBlock, width);
  return m;
}

// c (m × n) = a·b + add, b packed with its whole depth.
void multiply(float* packed, const Operand& a, const float* b, int64_t m, int64_t n, int64_t depth, const float* add, float* c, int64_t stride) {
  packRows(packed, a, 0, m, 0, depth);
  multiplyPacked(packed, b, depth * tileColumns, m, n, depth, add, c, stride);
}

// scores -> probabilities, dScores (dP) -> dS = p·(dP − delta)·scale; query i sees visible(i) = offset + i + 1 keys.
void softmaxBackward(const Backward& t, const Memory& m, int64_t token, int64_t head, int64_t rows, int64_t keys, int64_t offset) {
  const float scale = 1 / sqrtf(static_cast<float>(t.width));
  for (int64_t i = 0; i < rows; i++) {
    float *MOE_RESTRICT p = m.scores + i * keyBlock, *MOE_RESTRICT dS = m.dScores + i * keyBlock;
    const int64_t visible = most(0, least(keys, offset + i + 1)), at = (token + i) * t.heads + head;
    exponentials(p, p, visible, scale, t.lse[at]);
    const float delta = t.delta[at];
    for (int64_t j = 0; j < visible; j++) dS[j] = p[j] * (dS[j] - delta) * scale;
    memset(p + visible, 0, (keys - visible) * sizeof(float));
    memset(dS + visible, 0, (keys - visible) * sizeof(float));
  }
}

// One sequence's key-value head g; `first` is the sequence's first token.
void backwardOfHead(const Backward& t, int64_t first, int64_t length, int64_t g, float* memory) {
  const Memory m = cut(memory, t.width);
  const int64_t width = t.width, group = t.heads / t.kvHeads, qStride = t.qStride(), kStride = t.kStride();
  for (int64_t key = 0; key < length; key += keyBlock) {
    const int64_t keys = least(keyBlock, length - key), kAt = (first + key) * kStride + g * width;
    packColumns(m.keyColumns, {t.k + kAt, kStride, true, nullptr}, 0, keys, 0, width);
    packColumns(m.valueColumns, {t.v + kAt, kStride, true, nullptr}, 0, keys, 0, width);
    packColumns(m.keyRows, {t.k + kAt, kStride, false, nullptr}, 0, width, 0, keys);
    const float *dKSoFar = nullptr, *dVSoFar = nullptr;
    for (int64_t head = g * group; head < (g + 1) * group; head++) {
      for (int64_t query = key / queryBlock * queryBlock; query < length; query += queryBlock) {
        const int64_t rows = least(queryBlock, length - query), qAt = (first + query) * qStride + head * width;
        const Operand q = {t.q + qAt, qStride, true, nullptr}, dO = {t.dO + qAt, qStride, true, nullptr};
        multiply(m.packedRows, q, m.keyColumns, rows, keys, width, nullptr, m.scores, keyBlock);
        multiply(m.packedRows, dO, m.valueColumns, rows, keys, width, nullptr, m.dScores, keyBlock);
        softmaxBackward(t, m, first + query, head, rows, keys, query - key);
        packColumns(m.packedColumns, {t.dO + qAt, qStride, false, nullptr}, 0, width, 0, rows);
        multiply(m.packedRows, {m.scores, keyBlock, false, nullptr}, m.packedColumns, keys, width, rows, dVSoFar, t.dV + kAt, kStride);
        packColumns(m.packedColumns, {t.q + qAt, qStride, false, nullptr}, 0, width, 0, rows);
        multiply(m.packedRows, {m.dScores, keyBlock, false, nullptr}, m.packedColumns, keys, width, rows, dKSoFar, t.dK + kAt, kStride);
        multiply(m.packedRows, {m.dScores, keyBlock, true, nullptr}, m.keyRows, rows, width, keys, key > 0 ? t.dQ + qAt : nullptr, t.dQ + qAt, qStride);
        dKSoFar = t.dK + kAt;
        dVSoFar = t.dV + kAt;
      }
    }
  }
}

}  // namespace

Need attentionBackwardNeed(const Args& args) {
  const int64_t heads = static_cast<int64_t>(args.attrs[0]);
  return {dim(args, 0, 0) * heads, memoryFloats(dim(args, 0, 1) / heads)};
}

// dQ (T H·C), dK, dV (T G·C) from dO, q (T H·C), k, v (T G·C), o (T H·C), lse (T H); attributes H, G, sequence.
void attentionBackward(const Args& args, Pool& pool) {
  const int64_t tokens = dim(args, 0, 0), heads = static_cast<int64_t>(args.attrs[0]), kvHeads = static_cast<int64_t>(args.attrs[1]);
  const int64_t sequence = static_cast<int64_t>(args.attrs[2]), width = dim(args, 0, 1) / heads;
  const float *dO = f32(args, 3), *o = f32(args, 7);
  float* delta = args.work.shared;
  parallelRanges(pool, tokens, heads * width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * heads; i < end * heads; i++) delta[i] = static_cast<float>(preciseDot(dO + i * width, o + i * width, width));
  });
  const Backward t = {f32(args, 0), f32(args, 1), f32(args, 2), dO, f32(args, 4), f32(args, 5), f32(args, 6), f32(args, 8), delta, heads, kvHeads, width};
  parallel(pool, divideUp(tokens, sequence) * kvHeads, [&](int64_t tile, int thread) {
    const int64_t first = tile / kvHeads * sequence;
    backwardOfHead(t, first, least(sequence, tokens - first), tile % kvHeads, threadMemory(args, thread));
  });
}

}  // namespace moe::MOE_KERNELS
