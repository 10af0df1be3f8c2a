// What the vector units can do at best: independent multiply-adds in registers, nothing loaded or stored.
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

}  // namespace moe::MOE_KERNELS
