// embedPackedForward, linearPackedForward: rows of a packed weight, and its product with a few tokens (a step of decoding,
// bound by the bytes of the weight) or many (a prompt, where a strip stays in cache while all tiles of tokens meet it).
#include "packed.h"

#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t jobBytes = 128 << 10;  // of weights that one job of few tokens reads, at most
constexpr int64_t fewestJobs = 16;       // where there is enough to share out
constexpr int64_t tokensPerJob = 128;
constexpr int64_t stripsPerJob = 8;

}  // namespace

void placeTokens(const Tokens& to, const float* x, int64_t tokens, Pool& pool) {
  const auto place = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const Tile tile = tileOf(tokens, i);
      for (int t = 0; t < tile.count; t++) placeNumbers(to, tile.first, tile.count, t, 0, x + (tile.first + t) * to.width, to.width);
    }
  };
  // One tile is sooner done than shared out.
  if (tilesIn(tokens) <= 1) place(0, tilesIn(tokens));
  else parallel(pool, tilesIn(tokens), [&](int64_t tile, int) { place(tile, tile + 1); });
}

// x (T D) from ids (T), weight (V D).
void embedPackedForward(const Args& args, Pool& pool) {
  float* x = f32(args, 0);
  const int32_t* ids = i32(args, 1);
  const Packed weight = packedOf(args, 2);
  const int64_t tokens = dim(args, 0, 0);
  for (int64_t t = 0; t < tokens; t++) {
    if (ids[t] < 0 || ids[t] >= weight.rows) return pool.fail("ids", t, ids[t], weight.rows);
  }
  parallelRanges(pool, tokens, 4 * weight.width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) readRow(weight, ids[t], x + t * weight.width);
  });
}

Need linearPackedForwardNeed(const Args& args) {
  const Packed weight = packedOf(args, 2);
  return {tokensFloats(weight.format, weight.width, dim(args, 0, 0)), 0};
}

// y (T N) = x (T J) · weight (N J)ᵀ + add? (T N).
void linearPackedForward(const Args& args, Pool& pool) {
  float* y = f32(args, 0);
  const float* add = f32(args, 3);
  const Packed weight = packedOf(args, 2);
  const int64_t tokens = dim(args, 0, 0), tiles = tilesIn(tokens), n = weight.rows;
  const Tokens x = {weight.format, weight.width, tokens, args.work.shared};
  placeTokens(x, f32(args, 1), tokens, pool);
  const int64_t shared = most(1, weight.strips() / fewestJobs);
  const int64_t stripsOfJob = tiles == 1 ? most(1, least(jobBytes / weight.stripBytes(), shared)) : least(stripsPerJob, shared), tilesOfJob = divideUp(tokensPerJob, tileTokens);
  const int64_t stripJobs = divideUp(weight.strips(), stripsOfJob);
  parallel(pool, stripJobs * divideUp(tiles, tilesOfJob), [&](int64_t job, int) {
    const int64_t firstStrip = job % stripJobs * stripsOfJob, firstTile = job / stripJobs * tilesOfJob;
    const int64_t endStrip = least(weight.strips(), firstStrip + stripsOfJob);
    for (int64_t strip = firstStrip; strip < endStrip; strip++) {
      // Threads take jobs in turns.
      const int64_t nextStrip = strip + 1 < endStrip ? strip + 1 : least(weight.strips() - 1, firstStrip + pool.threads() * stripsOfJob);
      for (int64_t i = firstTile; i < least(tiles, firstTile + tilesOfJob); i++) {
        const Tile tile = tileOf(tokens, i);
        float out[tileTokens * stripRows];
        multiplyStrip(weight, strip, x, tile, out, stripOf(weight, nextStrip));
        const int64_t row = strip * stripRows, rows = least(stripRows, n - row);
        for (int t = 0; t < tile.count; t++) {
          const int64_t at = (tile.first + t) * n + row;
          for (int64_t r = 0; r < rows; r++) y[at + r] = add ? out[t * stripRows + r] + add[at + r] : out[t * stripRows + r];
        }
      }
    }
  });
}

}  // namespace moe::MOE_KERNELS
