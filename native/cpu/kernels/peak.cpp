// What the machine can do at best: independent multiply-adds in registers with nothing loaded or stored, and reading memory.
#include "ops.h"

namespace moe::MOE_KERNELS {

double multiplyAdd(Pool& pool) {
  constexpr int64_t chains = MOE_LANES == 16 ? 24 : 12, rounds = 200'000;
  const int64_t tiles = 4 * pool.threads();
  float results[1];
  parallel(pool, tiles, [&](int64_t tile, int) {
    Vec sum[chains];
    MOE_UNROLL
    for (int64_t i = 0; i < chains; i++) sum[i] = splat(static_cast<float>(i));
    const Vec factor = splat(0.999f), summand = splat(static_cast<float>(tile + 1));
    for (int64_t round = 0; round < rounds; round++) {
      MOE_UNROLL
      for (int64_t i = 0; i < chains; i++) sum[i] = sum[i] * factor + summand;
    }
    Vec total = splat(0);
    for (int64_t i = 0; i < chains; i++) total = total + sum[i];
    // Kept so that the loop is: no sum reaches this value.
    if (sumOfLanes(total) == -1) results[0] = 0;
  });
  (void)results;
  return static_cast<double>(tiles * rounds * chains) * 2 * MOE_LANES;
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
