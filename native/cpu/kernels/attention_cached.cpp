// attentionCachedForward, attentionSequencesForward: queries against a key-value cache of one sequence, or of several.
// Few tokens (decoding) read the cache where it is, head by head in blocks of keys whose partial softmaxes are then merged
// (flash decoding, arXiv 2311.01282); many (a prompt) pack it and run the same blocks as attentionForward.
#include "attention.h"
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t fewTokens = 8;
constexpr int64_t decodeBlock = 64;
constexpr int64_t mostGroups = 4;   // that share out the heads of a block of keys ...
constexpr int64_t fewestJobs = 16;  // ... where there are not as many jobs without
constexpr int64_t rowsAhead = 8;    // of keys that are asked for
constexpr int64_t tokensAtATime = 16;  // of many tokens of several sequences

struct Cached {
  float* o;
  const float *q, *cacheK, *cacheV;
  const int32_t* positions;
  // rows: those of one sequence; allRows: of the whole cache.
  int64_t tokens, rows, allRows, heads, kvHeads, width;
};

Cached read(const Args& args) {
  const int64_t heads = static_cast<int64_t>(args.attrs[0]), kvHeads = static_cast<int64_t>(args.attrs[1]);
  const int64_t rows = dim(args, 2, 0);
  return {f32(args, 0), f32(args, 1), f32(args, 2), f32(args, 3), i32(args, 4), dim(args, 0, 0), rows, rows, heads, kvHeads, dim(args, 0, 1) / heads};
}

Cached readSequences(const Args& args) {
  Cached c = read(args);
  c.rows = static_cast<int64_t>(args.attrs[2]);
  return c;
}

// First cache row of the sequence of token t.
int64_t firstRow(const Cached& c, int64_t t) { return c.positions[t] < 0 ? 0 : c.positions[t] / c.rows * c.rows; }

// Floats of one head's partial softmax: Σ e^(s − top)·v, top, Σ e^(s − top).
int64_t partialFloats(const Cached& c) { return c.width + 2; }

// Keys that token t sees.
int64_t visibleTo(const Cached& c, int64_t t) { return most(0, least(c.rows, int64_t{c.positions[t]} - firstRow(c, t) + 1)); }

// Asks for `floats` floats from `at` on, which are read later.
void askFor(const float* at, int64_t floats) {
#if defined(__GNUC__) || defined(__clang__)
  for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(at + i);
#endif
}

// scores[p] = q · row p of k for four rows, which are `stride` apart, so that their sums overlap.
void scoreFour(float* scores, const float* q, const float* k, int64_t stride, int64_t width) {
  Vec sum[4] = {splat(0), splat(0), splat(0), splat(0)};
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    const Vec part = load(q + i);
    MOE_UNROLL
    for (int j = 0; j < 4; j++) sum[j] = sum[j] + part * load(k + j * stride + i);
  }
  for (int j = 0; j < 4; j++) {
    float total = sumOfLanes(sum[j]);
    for (int64_t rest = i; rest < width; rest++) total += q[rest] * k[j * stride + rest];
    scores[j] = total;
  }
}

// Columns [i, i + ways·lanes) of o = Σ shares[p] · row p of v, in registers.
template <int ways>
void addColumns(float* o, const float* shares, const float* v, int64_t keys, int64_t stride) {
  Vec sum[ways];
  MOE_UNROLL
  for (int j = 0; j < ways; j++) sum[j] = splat(0);
  for (int64_t p = 0; p < keys; p++) {
    const Vec share = splat(shares[p]);
    MOE_UNROLL
    for (int j = 0; j < ways; j++) sum[j] = sum[j] + share * load(v + p * stride + j * lanes);
  }
  MOE_UNROLL
  for (int j = 0; j < ways; j++) store(o + j * lanes, sum[j]);
}

// o = Σ shares[p] · row p of v.
void addValues(float* o, const float* shares, const float* v, int64_t keys, int64_t stride, int64_t width) {
  constexpr int ways = 8;
  int64_t i = 0;
  for (; i + ways * lanes <= width; i += ways * lanes) addColumns<ways>(o + i, shares, v + i, keys, stride);
  for (; i + 4 * lanes <= width; i += 4 * lanes) addColumns<4>(o + i, shares, v + i, keys, stride);
  for (; i + lanes <= width; i += lanes) addColumns<1>(o + i, shares, v + i, keys, stride);
  for (; i < width; i++) {
    o[i] = 0;
    for (int64_t p = 0; p < keys; p++) o[i] += shares[p] * v[p * stride + i];
  }
}

// One block of keys for heads [firstHead, endHead) of token t. Per head, `partial` gets Σ e^(s − top)·v, the top score and Σ e^(s − top).
// Row by row through all of these heads, as the cache lies; `scores` has room for a block of each.
void attendKeys(const Cached& c, int64_t t, int64_t first, int64_t firstHead, int64_t endHead, float* scores, float* partial) {
  const int64_t keys = least(decodeBlock, visibleTo(c, t) - first), begin = (firstRow(c, t) + first) * c.kvHeads * c.width, stride = c.kvHeads * c.width;
  const auto columnOf = [&c](int64_t h) { return h * c.kvHeads / c.heads * c.width; };
  const int64_t firstColumn = columnOf(firstHead), columns = columnOf(endHead - 1) + c.width - firstColumn;
  const float scale = 1 / sqrtf(static_cast<float>(c.width));
  for (int64_t p = 0; p < keys; p += 4) {
    const int64_t count = least(4, keys - p), at = begin + p * stride;
    for (int64_t j = p; j < p + count; j++) {
      if (j + rowsAhead < keys) askFor(c.cacheK + begin + (j + rowsAhead) * stride + firstColumn, columns);
      askFor(c.cacheV + begin + j * stride + firstColumn, columns);
    }
    for (int64_t h = firstHead; h < endHead; h++) {
      const float *q = c.q + (t * c.heads + h) * c.width, *k = c.cacheK + at + columnOf(h);
      float* to = scores + (h - firstHead) * decodeBlock + p;
      if (count == 4) scoreFour(to, q, k, stride, c.width);
      else for (int64_t j = 0; j < count; j++) to[j] = dot(q, k + j * stride, c.width);
    }
  }
  for (int64_t h = firstHead; h < endHead; h++) {
    float *shares = scores + (h - firstHead) * decodeBlock, *o = partial + h * partialFloats(c);
    o[c.width] = largest(shares, keys) * scale;
    o[c.width + 1] = exponentials(shares, shares, keys, scale, o[c.width]);
    addValues(o, shares, c.cacheV + begin + columnOf(h), keys, stride, c.width);
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
  const int64_t blockFloats = c.heads * partialFloats(c);
  for (int64_t base = 0; base < c.tokens; base += tokensAtATime) {
    const int64_t tokens = least(tokensAtATime, c.tokens - base);
    int64_t keys = 1;
    for (int64_t t = base; t < base + tokens; t++) keys = most(keys, visibleTo(c, t));
    const int64_t blocks = divideUp(keys, decodeBlock), groups = least(least(mostGroups, c.heads), divideUp(fewestJobs, tokens * blocks));
    parallel(pool, tokens * blocks * groups, [&](int64_t job, int thread) {
      const int64_t tile = job / groups, group = job % groups;
      const int64_t t = base + tile / blocks, first = tile % blocks * decodeBlock;
      if (first >= visibleTo(c, t)) return;
      attendKeys(c, t, first, group * c.heads / groups, (group + 1) * c.heads / groups, threadMemory(args, thread), args.work.shared + tile * blockFloats);
    });
    parallelRanges(pool, tokens * c.heads, blocks * c.width, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) mergeBlocks(c, base + i / c.heads, i % c.heads, args.work.shared + i / c.heads * blocks * blockFloats);
    });
  }
}

void attendMany(const Args& args, Pool& pool, const Cached& c) {
  const int64_t stride = c.kvHeads * c.width, headFloats = packedHeadFloats(args.mixed, c.rows, c.width);
  int64_t keys = 0;
  for (int64_t t = 0; t < c.tokens; t++) keys = most(keys, visibleTo(c, t));
  const int64_t begin = firstRow(c, 0) * stride;
  parallel(pool, c.kvHeads, [&](int64_t g, int) {
    const Operand k = {c.cacheK + begin + g * c.width, stride, true, nullptr, false}, v = {c.cacheV + begin + g * c.width, stride, false, nullptr, false};
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

// Many tokens of one sequence are worth packing its cache; padding belongs to any.
bool isOneSequence(const Cached& c) {
  for (int64_t t = 1; t < c.tokens; t++) {
    if (c.positions[t] >= 0 && firstRow(c, t) != firstRow(c, 0)) return false;
  }
  return true;
}

Need fewNeed(const Cached& c) { return {least(c.tokens, tokensAtATime) * divideUp(c.rows, decodeBlock) * c.heads * partialFloats(c), c.heads * decodeBlock}; }
Need manyNeed(const Args& args, const Cached& c) { return {c.kvHeads * packedHeadFloats(args.mixed, c.rows, c.width), attendFloats(c.width)}; }

void attendCached(const Args& args, Pool& pool, const Cached& c, const char* what, bool isMany) {
  for (int64_t t = 0; t < c.tokens; t++) {
    if (c.positions[t] >= c.allRows) return pool.fail(what, t, c.positions[t], c.allRows);
  }
  if (isMany) attendMany(args, pool, c);
  else attendFew(args, pool, c);
}

}  // namespace

Need attentionCachedForwardNeed(const Args& args) {
  const Cached c = read(args);
  return c.tokens > fewTokens ? manyNeed(args, c) : fewNeed(c);
}

Need attentionSequencesForwardNeed(const Args& args) {
  const Cached c = readSequences(args);
  const Need few = fewNeed(c), many = manyNeed(args, c);
  return {most(few.sharedFloats, many.sharedFloats), most(few.perThreadFloats, many.perThreadFloats)};
}

// o (T H·C) from q (T H·C), cacheK, cacheV (P G·C), positions (T); attributes H, G.
void attentionCachedForward(const Args& args, Pool& pool) {
  const Cached c = read(args);
  attendCached(args, pool, c, "positions", c.tokens > fewTokens);
}

// o (T H·C) from q (T H·C), cacheK, cacheV (P G·C), rows (T); attributes H, G, capacity.
void attentionSequencesForward(const Args& args, Pool& pool) {
  const Cached c = readSequences(args);
  attendCached(args, pool, c, "rows", c.tokens > fewTokens && isOneSequence(c));
}

}  // namespace moe::MOE_KERNELS
