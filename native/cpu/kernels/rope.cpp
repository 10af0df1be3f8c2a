// ropeForward, ropeBackward: rotary positions in the rotate-half form (arXiv 2104.09864).
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

// to = from (T H·C) with every pair (i, i + C/2) of every head turned by direction · positions[t] · theta^(−2i/C).
// Angles are in double: at position 4096 a float angle is off by 2e-4.
void rotate(const Args& args, Pool& pool, float direction) {
  constexpr int64_t maxHalf = 512;
  float* to = f32(args, 0);
  const float* from = f32(args, 1);
  const int32_t* positions = i32(args, 2);
  const int64_t tokens = dim(args, 0, 0), width = dim(args, 0, 1), heads = static_cast<int64_t>(args.attrs[0]);
  const int64_t headWidth = width / heads, half = headWidth / 2;
  const double theta = args.attrs[1];
  parallelRanges(pool, tokens, 4 * width, [&](int64_t begin, int64_t end) {
    for (int64_t first = 0; first < half; first += maxHalf) {
      const int64_t count = least(maxHalf, half - first);
      double frequency[maxHalf];
      float cosine[maxHalf], sine[maxHalf];
      for (int64_t i = 0; i < count; i++) frequency[i] = pow(theta, -2.0 * static_cast<double>(first + i) / static_cast<double>(headWidth));
      for (int64_t t = begin; t < end; t++) {
        for (int64_t i = 0; i < count; i++) {
          const double angle = positions[t] * frequency[i];
          cosine[i] = static_cast<float>(cos(angle));
          sine[i] = direction * static_cast<float>(sin(angle));
        }
        for (int64_t head = 0; head < heads; head++) {
          const int64_t at = t * width + head * headWidth + first;
          const float *MOE_RESTRICT low = from + at, *MOE_RESTRICT high = low + half;
          float *MOE_RESTRICT toLow = to + at, *MOE_RESTRICT toHigh = toLow + half;
          for (int64_t i = 0; i < count; i++) {
            toLow[i] = low[i] * cosine[i] - high[i] * sine[i];
            toHigh[i] = high[i] * cosine[i] + low[i] * sine[i];
          }
        }
      }
    }
  });
}

}  // namespace

void ropeForward(const Args& args, Pool& pool) { rotate(args, pool, 1); }

void ropeBackward(const Args& args, Pool& pool) { rotate(args, pool, -1); }

}  // namespace moe::MOE_KERNELS
