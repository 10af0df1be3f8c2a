// attentionCachedForward: queries against a key-value cache. Few tokens (decoding) read the cache where it is, row after
// row for all heads at once, in blocks of keys whose partial softmaxes are then merged (flash decoding, arXiv 2311.01282);
// many (a prompt) pack it and run the same blocks as attentionForward.
#include "attention.h"
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t fewTokens = 8;
constexpr int64_t decodeBlock = 64;

struct Cached {
  float* o;
  const float *q, *cacheK, *cacheV;
  const int32_t* positions;
  int64_t tokens, rows, heads, kvHeads, width;
};

Cached read(const Args& args) {
  const int64_t heads = static_cast<int64_t>(args.attrs[0]), kvHeads = static_cast<int64_t>(args.attrs[1]);
  return {f32(args, 0), f32(args, 1), f32(args, 2), f32(args, 3), i32(args, 4), dim(args, 0, 0), dim(args, 2, 0), heads, kvHeads, dim(args, 0, 1) / heads};
}

// Floats of one head's partial softmax: Σ e^(s − top)·v, top, Σ e^(s − top).
int64_t partialFloats(const Cached& c) { return c.width + 2; }

// Keys that token t sees.
int64_t visibleTo(const Cached& c, int64_t t) { return most(0, least(c.rows, int64_t{c.positions[t]} + 1)); }

// One block of keys for all heads of token t. Per head, `partial` gets Σ e^(s − top)·v, the top score and Σ e^(s − top).
void attendKeys(const Cached& c, int64_t t, int64_t first, float* scores, float* partial) {
  const int64_t keys = least(decodeBlock, visibleTo(c, t) - first), stride = c.kvHeads * c.width;
  const float scale = 1 / sqrtf(static_cast<float>(c.width));
  for (int64_t p = 0; p < keys; p++) {
    const float* row = c.cacheK + (first + p) * stride;
    for (int64_t h = 0; h < c.heads; h++) scores[h * decodeBlock + p] = dot(c.q + (t * c.heads + h) * c.width, row + h * c.kvHeads / c.heads * c.width, c.width);
  }
  for (int64_t h = 0; h < c.heads; h++) {
    float *row = scores + h * decodeBlock, *o = partial + h * partialFloats(c);
    memset(o, 0, c.width * sizeof(float));
    o[c.width] = largest(row, keys) * scale;
    o[c.width + 1] = exponentials(row, row, keys, scale, o[c.width]);
  }
  for (int64_t p = 0; p < keys; p++) {
    const float* row = c.cacheV + (first + p) * stride;
    for (int64_t h = 0; h < c.heads; h++) {
      const float* MOE_RESTRICT v = row + h * c.kvHeads / c.heads * c.width;
      float* MOE_RESTRICT o = partial + h * partialFloats(c);
      const float share = scores[h * decodeBlock + p];
      for (int64_t i = 0; i < c.width; i++) o[i] += share * v[i];
    }
  }
}

// The output of one head of token t from the partial softmaxes of its blocks, in their order.
void mergeBlocks(const Cached& c, int64_t t, int64_t h, const float* partials) {
  const int64_t blocks = divideUp(visibleTo(c, t), decodeBlock), step = c.heads * partialFloats(c);
  float* MOE_RESTRICT o = c.o + (t * c.heads + h) * c.width;
  memset(o, 0, c.width * sizeof(float));
  if (blocks == 0) return;
  const float* first = partials + h * partialFloats(c);
  float top = -INFINITY, sum = 0;
  for (int64_t b = 0; b < blocks; b++) top = first[b * step + c.width] > top ? first[b * step + c.width] : top;
  for (int64_t b = 0; b < blocks; b++) {
    const float* MOE_RESTRICT partial = first + b * step;
    const float share = expf(partial[c.width] - top);
    sum += share * partial[c.width + 1];
    for (int64_t i = 0; i < c.width; i++) o[i] += share * partial[i];
  }
  for (int64_t i = 0; i < c.width; i++) o[i] /= sum;
}

void attendFew(const Args& args, Pool& pool, const Cached& c) {
  const int64_t blocks = divideUp(c.rows, decodeBlock), blockFloats = c.heads * partialFloats(c);
  parallel(pool, c.tokens * blocks, [&](int64_t tile, int thread) {
    const int64_t t = tile / blocks, first = tile % blocks * decodeBlock;
    if (first < visibleTo(c, t)) attendKeys(c, t, first, threadMemory(args, thread), args.work.shared + tile * blockFloats);
  });
  parallelRanges(pool, c.tokens * c.heads, blocks * c.width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) mergeBlocks(c, i / c.heads, i % c.heads, args.work.shared + i / c.heads * blocks * blockFloats);
  });
}

void attendMany(const Args& args, Pool& pool, const Cached& c) {
  const int64_t stride = c.kvHeads * c.width, headFloats = packedHeadFloats(args.mixed, c.rows, c.width);
  int64_t keys = 0;
  for (int64_t t = 0; t < c.tokens; t++) keys = most(keys, visibleTo(c, t));
  parallel(pool, c.kvHeads, [&](int64_t g, int) {
    const Operand k = {c.cacheK + g * c.width, stride, true, nullptr, false}, v = {c.cacheV + g * c.width, stride, false, nullptr, false};
    packHead(args.mixed, args.work.shared + g * headFloats, k, v, keys, c.width);
  });
  parallel(pool, divideUp(c.tokens, queryBlock) * c.heads, [&](int64_t tile, int thread) {
    const int64_t h = tile % c.heads, first = tile / c.heads * queryBlock, count = least(queryBlock, c.tokens - first);
    int64_t visible[queryBlock];
    for (int64_t i = 0; i < count; i++) visible[i] = visibleTo(c, first + i);
    const float* packed = args.work.shared + h * c.kvHeads / c.heads * headFloats;
    const int64_t at = (first * c.heads + h) * c.width, rowStride = c.heads * c.width;
    const QueryBlock queries = {{c.q + at, rowStride, true, nullptr, false}, c.o + at, false, nullptr, count, rowStride, 0, c.width, visible};
    attend(args.mixed, queries, packedHead(args.mixed, packed, keys, c.width), threadMemory(args, thread));
  });
}

}  // namespace

Need attentionCachedForwardNeed(const Args& args) {
  const Cached c = read(args);
  if (c.tokens <= fewTokens) return {c.tokens * divideUp(c.rows, decodeBlock) * c.heads * partialFloats(c), c.heads * decodeBlock};
  return {c.kvHeads * packedHeadFloats(args.mixed, c.rows, c.width), attendFloats(c.width)};
}

// o (T H·C) from q (T H·C), cacheK, cacheV (P G·C), positions (T); attributes H, G.
void attentionCachedForward(const Args& args, Pool& pool) {
  const Cached c = read(args);
  for (int64_t t = 0; t < c.tokens; t++) {
    if (c.positions[t] >= c.rows) return pool.fail("positions", t, c.positions[t], c.rows);
  }
  if (c.tokens > fewTokens) attendMany(args, pool, c);
  else attendFew(args, pool, c);
}

}  // namespace moe::MOE_KERNELS
