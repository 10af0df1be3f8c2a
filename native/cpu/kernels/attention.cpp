// attentionForward, kvAppendForward, attentionCachedForward.
#include "attention.h"

#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

// Running maximum and sum of one query's softmax.
struct Softmax {
  float top, sum;
};

// Turns scores row[0, keys), of which the first `visible` count, into exponentials, zero beyond; rescales what came before.
void softmaxStep(float* row, int64_t visible, int64_t keys, float scale, Softmax& state, float* o, int64_t width) {
  memset(row + visible, 0, (keys - visible) * sizeof(float));
  if (visible == 0) return;
  const float top = largest(row, visible) * scale;
  if (!(top <= state.top)) {
    const float shrink = expf(state.top - top);
    state.top = top;
    state.sum *= shrink;
    for (int64_t i = 0; i < width; i++) o[i] *= shrink;
  }
  state.sum += exponentials(row, row, visible, scale, state.top);
}

}  // namespace

int64_t attendFloats(int64_t width) {
  return queryBlock * (width + keyBlock + keyBlock + roundUp(width, lanes));
}

PackedHead packHead(float* to, const float* k, const float* v, int64_t stride, int64_t keys, int64_t width) {
  float* packedV = to + packedFloats(keys, width);
  packColumns(to, {k, stride, true, nullptr}, 0, keys, 0, width);
  packColumns(packedV, {v, stride, false, nullptr}, 0, width, 0, keys);
  return {to, packedV, keys};
}

void attend(const QueryBlock& block, const PackedHead& head, float* memory) {
  const int64_t width = block.width;
  const float scale = 1 / sqrtf(static_cast<float>(width));
  float *packedQ = memory, *scores = packedQ + queryBlock * width, *packedP = scores + queryBlock * keyBlock, *o = packedP + queryBlock * keyBlock;
  Softmax state[queryBlock];
  int64_t seen = 0;
  for (int64_t i = 0; i < block.count; i++) {
    state[i] = {-INFINITY, 0};
    seen = most(seen, block.visible[i]);
  }
  memset(o, 0, block.count * width * sizeof(float));
  packRows(packedQ, {block.q, block.stride, true, nullptr}, 0, block.count, 0, width);
  for (int64_t first = 0; first < seen; first += keyBlock) {
    const int64_t keys = least(keyBlock, seen - first);
    multiplyPacked(packedQ, head.k + first * width, width * tileColumns, block.count, keys, width, nullptr, scores, keyBlock);
    for (int64_t i = 0; i < block.count; i++) {
      const int64_t visible = most(0, least(keys, block.visible[i] - first));
      softmaxStep(scores + i * keyBlock, visible, keys, scale, state[i], o + i * width, width);
    }
    packRows(packedP, {scores, keyBlock, true, nullptr}, 0, block.count, 0, keys);
    multiplyPacked(packedP, head.v + first * tileColumns, head.keys * tileColumns, block.count, width, keys, o, o, width);
  }
  for (int64_t i = 0; i < block.count; i++) {
    const float share = block.visible[i] > 0 ? 1 / state[i].sum : 0;
    for (int64_t c = 0; c < width; c++) block.o[i * block.stride + c] = o[i * width + c] * share;
    if (block.lse) block.lse[i * block.lseStride] = state[i].top + logf(state[i].sum);
  }
}

Need attentionForwardNeed(const Args& args) {
  const int64_t tokens = dim(args, 0, 0), heads = static_cast<int64_t>(args.attrs[0]), kvHeads = static_cast<int64_t>(args.attrs[1]);
  const int64_t sequence = static_cast<int64_t>(args.attrs[2]), width = dim(args, 0, 1) / heads;
  return {divideUp(tokens, sequence) * kvHeads * packedHeadFloats(sequence, width), attendFloats(width)};
}

// o (T H·C), lse (T H) from q (T H·C), k, v (T G·C); attributes H, G, sequence. Tiles: blocks of queries of one head.
void attentionForward(const Args& args, Pool& pool) {
  float *o = f32(args, 0), *lse = f32(args, 1);
  const float *q = f32(args, 2), *k = f32(args, 3), *v = f32(args, 4);
  const int64_t tokens = dim(args, 0, 0), heads = static_cast<int64_t>(args.attrs[0]), kvHeads = static_cast<int64_t>(args.attrs[1]);
  const int64_t sequence = static_cast<int64_t>(args.attrs[2]), width = dim(args, 0, 1) / heads;
  const int64_t sequences = divideUp(tokens, sequence), blocks = divideUp(sequence, queryBlock);
  const int64_t headFloats = packedHeadFloats(sequence, width);
  const auto lengthOf = [&](int64_t s) { return least(sequence, tokens - s * sequence); };
  parallel(pool, sequences * kvHeads, [&](int64_t tile, int) {
    const int64_t s = tile / kvHeads, at = s * sequence * kvHeads * width + tile % kvHeads * width;
    packHead(args.work.shared + tile * headFloats, k + at, v + at, kvHeads * width, lengthOf(s), width);
  });
  parallel(pool, sequences * heads * blocks, [&](int64_t tile, int thread) {
    // The last blocks of a sequence see most keys: they go first, so that no thread ends with the longest.
    const int64_t block = blocks - 1 - tile / (sequences * heads), s = tile / heads % sequences, h = tile % heads;
    const int64_t first = block * queryBlock, length = lengthOf(s), count = least(queryBlock, length - first);
    if (count <= 0) return;
    float* packed = args.work.shared + (s * kvHeads + h * kvHeads / heads) * headFloats;
    const int64_t token = s * sequence + first;
    int64_t visible[queryBlock];
    for (int64_t i = 0; i < count; i++) visible[i] = first + i + 1;
    const QueryBlock queries = {q + token * heads * width + h * width, o + token * heads * width + h * width, lse + token * heads + h, count, heads * width, heads, width, visible};
    attend(queries, {packed, packed + packedFloats(length, width), length}, threadMemory(args, thread));
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
