// sumOfSquares, clipScale, adamwStep (decoupled weight decay, arXiv 1711.05101).
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t squareBlock = 1 << 14;  // elements whose squares are summed before the blocks are

}  // namespace

Need sumOfSquaresNeed(const Args& args) { return {2 * divideUp(elements(args, 1), squareBlock), 0}; }

// partials[index] (of M) = Σ x²; attribute index.
void sumOfSquares(const Args& args, Pool& pool) {
  const float* x = f32(args, 1);
  const int64_t count = elements(args, 1), blocks = divideUp(count, squareBlock);
  double* sums = reinterpret_cast<double*>(args.work.shared);
  parallel(pool, blocks, [&](int64_t block, int) {
    const float* begin = x + block * squareBlock;
    sums[block] = preciseDot(begin, begin, least(squareBlock, count - block * squareBlock));
  });
  double sum = 0;
  for (int64_t block = 0; block < blocks; block++) sum += sums[block];
  f32(args, 0)[static_cast<int64_t>(args.attrs[0])] = static_cast<float>(sum);
}

// scale (2) from partials (M); attribute maxNorm. A norm that is not finite gives the scale −1.
void clipScale(const Args& args, Pool&) {
  const float* partials = f32(args, 1);
  double sum = 0;
  for (int64_t i = 0; i < elements(args, 1); i++) sum += static_cast<double>(partials[i]);
  const double norm = sqrt(sum), ratio = args.attrs[0] / (norm + 1e-6);
  f32(args, 0)[0] = static_cast<float>(norm);
  const bool isFinite = norm - norm == 0;
  f32(args, 0)[1] = !isFinite ? -1.0f : args.attrs[0] == 0 || ratio > 1 ? 1.0f : static_cast<float>(ratio);
}

// param, m, v, grad (any shape) under scale (2) and hyper (3); attributes beta1, beta2, eps, weightDecay. Zeroes grad; a negative scale leaves all as it is.
void adamwStep(const Args& args, Pool& pool) {
  const float gradientScale = f32(args, 4)[1];
  if (gradientScale < 0) return;
  const float *hyper = f32(args, 5), rate = hyper[0], correction1 = hyper[1], correction2 = hyper[2];
  const float beta1 = static_cast<float>(args.attrs[0]), beta2 = static_cast<float>(args.attrs[1]), eps = static_cast<float>(args.attrs[2]);
  const float rest1 = static_cast<float>(1 - args.attrs[0]), rest2 = static_cast<float>(1 - args.attrs[1]);
  const float keep = static_cast<float>(1 - static_cast<double>(rate) * args.attrs[3]);
  const float step = rate / correction1, rootCorrection2 = sqrtf(correction2);
  parallelRanges(pool, elements(args, 0), 1, [&](int64_t begin, int64_t end) {
    float *MOE_RESTRICT param = f32(args, 0), *MOE_RESTRICT m = f32(args, 1), *MOE_RESTRICT v = f32(args, 2), *MOE_RESTRICT grad = f32(args, 3);
    for (int64_t i = begin; i < end; i++) {
      const float g = grad[i] * gradientScale;
      grad[i] = 0;
      m[i] = beta1 * m[i] + rest1 * g;
      v[i] = beta2 * v[i] + rest2 * g * g;
      param[i] = param[i] * keep - step * m[i] / (sqrtf(v[i]) / rootCorrection2 + eps);
    }
  });
}

}  // namespace moe::MOE_KERNELS
