// attentionCachedForward: queries against a key-value cache. Few tokens (decoding) read the cache where it is; many
// (a prompt) pack it and run the same blocks as attentionForward.
#include "attention.h"
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t fewTokens = 8;

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

// Keys that token t sees.
int64_t visibleTo(const Cached& c, int64_t t) { return most(0, least(c.rows, int64_t{c.positions[t]} + 1)); }

// One query of one head; `scores` holds `rows` floats.
void attendOne(const Cached& c, int64_t t, int64_t h, float* scores) {
  const int64_t stride = c.kvHeads * c.width, at = h * c.kvHeads / c.heads * c.width, visible = visibleTo(c, t);
  const float* q = c.q + (t * c.heads + h) * c.width;
  float* MOE_RESTRICT o = c.o + (t * c.heads + h) * c.width;
  memset(o, 0, c.width * sizeof(float));
  if (visible == 0) return;
  const float scale = 1 / sqrtf(static_cast<float>(c.width));
  for (int64_t p = 0; p < visible; p++) scores[p] = dot(q, c.cacheK + p * stride + at, c.width);
  const float sum = exponentials(scores, scores, visible, scale, largest(scores, visible) * scale);
  for (int64_t p = 0; p < visible; p++) {
    const float* MOE_RESTRICT v = c.cacheV + p * stride + at;
    for (int64_t i = 0; i < c.width; i++) o[i] += scores[p] * v[i];
  }
  for (int64_t i = 0; i < c.width; i++) o[i] /= sum;
}

void attendMany(const Args& args, Pool& pool, const Cached& c) {
  const int64_t stride = c.kvHeads * c.width, headFloats = packedHeadFloats(c.rows, c.width);
  int64_t keys = 0;
  for (int64_t t = 0; t < c.tokens; t++) keys = most(keys, visibleTo(c, t));
  parallel(pool, c.kvHeads, [&](int64_t g, int) {
    packHead(args.work.shared + g * headFloats, c.cacheK + g * c.width, c.cacheV + g * c.width, stride, keys, c.width);
  });
  parallel(pool, divideUp(c.tokens, queryBlock) * c.heads, [&](int64_t tile, int thread) {
    const int64_t h = tile % c.heads, first = tile / c.heads * queryBlock, count = least(queryBlock, c.tokens - first);
    int64_t visible[queryBlock];
    for (int64_t i = 0; i < count; i++) visible[i] = visibleTo(c, first + i);
    const float* packed = args.work.shared + h * c.kvHeads / c.heads * headFloats;
    const int64_t at = (first * c.heads + h) * c.width;
    const QueryBlock queries = {c.q + at, c.o + at, nullptr, count, c.heads * c.width, 0, c.width, visible};
    attend(queries, {packed, packed + packedFloats(keys, c.width), keys}, threadMemory(args, thread));
  });
}

}  // namespace

Need attentionCachedForwardNeed(const Args& args) {
  const Cached c = read(args);
  if (c.tokens <= fewTokens) return {0, c.rows};
  return {c.kvHeads * packedHeadFloats(c.rows, c.width), attendFloats(c.width)};
}

// o (T H·C) from q (T H·C), cacheK, cacheV (P G·C), positions (T); attributes H, G.
void attentionCachedForward(const Args& args, Pool& pool) {
  const Cached c = read(args);
  for (int64_t t = 0; t < c.tokens; t++) {
    if (c.positions[t] >= c.rows) return pool.fail("positions", t, c.positions[t], c.rows);
  }
  if (c.tokens > fewTokens) return attendMany(args, pool, c);
  parallel(pool, c.tokens * c.heads, [&](int64_t tile, int thread) { attendOne(c, tile / c.heads, tile % c.heads, threadMemory(args, thread)); });
}

}  // namespace moe::MOE_KERNELS
