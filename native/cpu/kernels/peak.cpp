// What the machine can do at best: independent multiply-adds in registers with nothing loaded or stored, and reading memory.
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t chains = MOE_LANES == 16 ? 24 : 12;

Vec multiplyAddFloats(int64_t rounds, float seed) {
  Vec sum[chains];
  MOE_UNROLL
  for (int64_t i = 0; i < chains; i++) sum[i] = splat(static_cast<float>(i));
  const Vec factor = splat(0.999f), summand = splat(seed);
  for (int64_t round = 0; round < rounds; round++) {
    MOE_UNROLL
    for (int64_t i = 0; i < chains; i++) sum[i] = sum[i] * factor + summand;
  }
  Vec total = splat(0);
  for (int64_t i = 0; i < chains; i++) total = total + sum[i];
  return total;
}

#if MOE_BF16
Vec multiplyAddPairs(int64_t rounds, float seed) {
  __m512 sum[chains];
  MOE_UNROLL
  for (int64_t i = 0; i < chains; i++) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80), b = (__m512bh)_mm512_cvtne2ps_pbh(_mm512_set1_ps(seed), _mm512_set1_ps(seed));
  for (int64_t round = 0; round < rounds; round++) {
    MOE_UNROLL
    for (int64_t i = 0; i < chains; i++) sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
  }
  __m512 total = _mm512_setzero_ps();
  for (int64_t i = 0; i < chains; i++) total = _mm512_add_ps(total, sum[i]);
  return (Vec)total;
}
#endif

}  // namespace

double multiplyAdd(Pool& pool, bool mixed) {
  constexpr int64_t rounds = 200'000;
  const int64_t tiles = 4 * pool.threads();
  float results[1];
  parallel(pool, tiles, [&](int64_t tile, int) {
    const float seed = static_cast<float>(tile + 1);
#if MOE_BF16
    const Vec total = mixed ? multiplyAddPairs(rounds, seed) : multiplyAddFloats(rounds, seed);
#else
    const Vec total = multiplyAddFloats(rounds, seed);
#endif
    // Kept so that the loop is: no sum reaches this value.
    if (sumOfLanes(total) == -1) results[0] = 0;
  });
  (void)results;
  return static_cast<double>(tiles * rounds * chains) * 2 * MOE_LANES * (mixed ? 2 : 1);
}

double readThrough(const float* data, int64_t floats, Pool& pool) {
  constexpr int64_t tileFloats = 1 << 18, chains = 8;
  double sums[64] = {};
  parallel(pool, floats / tileFloats, [&](int64_t tile, int thread) {
    const float* from = data + tile * tileFloats;
    Vec sum[chains];
    MOE_UNROLL
    for (int64_t i = 0; i < chains; i++) sum[i] = splat(0);
    for (int64_t at = 0; at < tileFloats; at += chains * lanes) {
#if defined(__GNUC__) || defined(__clang__)
      for (int64_t line = 0; line < chains * lanes; line += 16) __builtin_prefetch(from + at + line + 1024);
#endif
      MOE_UNROLL
      for (int64_t i = 0; i < chains; i++) sum[i] = sum[i] + load(from + at + i * lanes);
    }
    Vec total = splat(0);
    for (int64_t i = 0; i < chains; i++) total = total + sum[i];
    sums[thread % 64] += sumOfLanes(total);
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

}  // namespace moe::MOE_KERNELS
