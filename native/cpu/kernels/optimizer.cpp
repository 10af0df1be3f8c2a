// sumOfSquares, clipScale, adamwStep (decoupled weight decay, arXiv 1711.05101).
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t squareBlock = 1 << 14;  // elements whose squares are summed before the blocks are

}  // namespace

Need sumOfSquaresNeed(const Args& args) { return {2 * divideUp(elements(args, 1), squareBlock), 0}; }

// partials[index] (of M) = Σ x²; attribute index. A gradient that is zero, or whose squares were summed as it was written, is not read.
void sumOfSquares(const Args& args, Pool& pool) {
  const float* x = f32(args, 1);
  const Gradient known = args.gradient ? *args.gradient : Gradient{};
  float& partial = f32(args, 0)[static_cast<int64_t>(args.attrs[0])];
  if (known.isZero) {
    partial = 0;
    return;
  }
  if (known.hasSquares) {
    partial = static_cast<float>(preciseSum(known.squares, known.squareCount));
    return;
  }
  const int64_t count = elements(args, 1), blocks = divideUp(count, squareBlock);
  double* sums = reinterpret_cast<double*>(args.work.shared);
  parallel(pool, blocks, [&](int64_t block, int) {
    const float* begin = x + block * squareBlock;
    sums[block] = preciseDot(begin, begin, least(squareBlock, count - block * squareBlock));
  });
  double sum = 0;
  for (int64_t block = 0; block < blocks; block++) sum += sums[block];
  partial = static_cast<float>(sum);
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

// param, m, v, grad (any shape) under scale (2) and hyper (3); attributes beta1, beta2, eps, weightDecay. Leaves grad zero, by word alone where that is kept; a negative scale leaves all as it is.
void adamwStep(const Args& args, Pool& pool) {
  const float gradientScale = f32(args, 4)[1];
  if (gradientScale < 0) return;
  const float *hyper = f32(args, 5), rate = hyper[0], correction1 = hyper[1], correction2 = hyper[2];
  const float beta1 = static_cast<float>(args.attrs[0]), beta2 = static_cast<float>(args.attrs[1]), eps = static_cast<float>(args.attrs[2]);
  const float rest1 = static_cast<float>(1 - args.attrs[0]), rest2 = static_cast<float>(1 - args.attrs[1]);
  const float keep = static_cast<float>(1 - static_cast<double>(rate) * args.attrs[3]);
  const float step = rate / correction1, perRoot = 1 / sqrtf(correction2);
  float *param = f32(args, 0), *m = f32(args, 1), *v = f32(args, 2), *grad = f32(args, 3);
  const bool writesZero = args.gradient == nullptr;
  if (takeZero(args)) memset(grad, 0, elements(args, 3) * sizeof(float));
  if (args.gradient) args.gradient->isZero = true;
  // One vector of each; vectors are padded, so that a part is computed as a whole one is.
  const auto update = [&](Vec& p, Vec& m1, Vec& v1, Vec g) {
    g = g * splat(gradientScale);
    m1 = splat(beta1) * m1 + splat(rest1) * g;
    v1 = splat(beta2) * v1 + splat(rest2) * g * g;
    p = p * splat(keep) - splat(step) * m1 / (squareRoot(v1) * splat(perRoot) + splat(eps));
  };
  parallelRanges(pool, elements(args, 0), 1, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + lanes <= end; i += lanes) {
      Vec p = load(param + i), m1 = load(m + i), v1 = load(v + i);
      update(p, m1, v1, load(grad + i));
      store(param + i, p);
      store(m + i, m1);
      store(v + i, v1);
      if (writesZero) store(grad + i, splat(0));
    }
    if (i == end) return;
    const int64_t rest = end - i;
    Vec p = loadPart(param + i, rest, 0), m1 = loadPart(m + i, rest, 0), v1 = loadPart(v + i, rest, 0);
    update(p, m1, v1, loadPart(grad + i, rest, 0));
    storePart(param + i, p, rest);
    storePart(m + i, m1, rest);
    storePart(v + i, v1, rest);
    if (writesZero) storePart(grad + i, splat(0), rest);
  });
}

}  // namespace moe::MOE_KERNELS
