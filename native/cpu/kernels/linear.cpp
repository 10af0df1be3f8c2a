// linearForward, linearBackwardInput, linearBackwardWeight: one product each.
#include "gemm.h"
#include "ops.h"

namespace moe::MOE_KERNELS {

int64_t linearForwardPacked(const Args& args) { return packedFloats(args.mixed, dim(args, 2, 0), dim(args, 2, 1)); }

Need linearForwardNeed(const Args& args) {
  const int64_t n = dim(args, 2, 0), j = dim(args, 2, 1);
  return gemmNeed(args.mixed, packedFloats(args.mixed, n, j), j);
}

// y (T N) = x (T J) · weight (N J)ᵀ + add? (T N).
void linearForward(const Args& args, Pool& pool) {
  const int64_t tokens = dim(args, 0, 0), n = dim(args, 2, 0), j = dim(args, 2, 1);
  const Operand weight = operandOf(args, 2, j, true);
  const Product product = {tokens, n, j, operandOf(args, 1, j, true), weight, elementOf(args, 0, 0), isHalf(args, 0), n, f32(args, 3), keptWeights(args, weight, n, j, 1, 0, tokens, pool)};
  gemm(&product, 1, args.mixed, args.work, pool);
}

int64_t linearBackwardInputPacked(const Args& args) { return packedFloats(args.mixed, dim(args, 2, 1), dim(args, 2, 0)); }

Need linearBackwardInputNeed(const Args& args) {
  const int64_t n = dim(args, 2, 0), j = dim(args, 2, 1);
  return gemmNeed(args.mixed, packedFloats(args.mixed, j, n), n);
}

// dX (T J) = dY (T N) · weight (N J) + add? (T J).
void linearBackwardInput(const Args& args, Pool& pool) {
  const int64_t tokens = dim(args, 0, 0), n = dim(args, 2, 0), j = dim(args, 2, 1);
  const Operand weight = operandOf(args, 2, j, false);
  const Product product = {tokens, j, n, operandOf(args, 1, n, true), weight, elementOf(args, 0, 0), isHalf(args, 0), j, f32(args, 3), keptWeights(args, weight, j, n, 1, 0, tokens, pool)};
  gemm(&product, 1, args.mixed, args.work, pool);
}

Need linearBackwardWeightNeed(const Args& args) {
  const int64_t tokens = dim(args, 2, 0), j = dim(args, 2, 1);
  return gemmNeed(args.mixed, packedFloats(args.mixed, j, tokens), tokens);
}

int64_t linearBackwardWeightSquares(const Args& args) { return squaresOf(dim(args, 0, 0), dim(args, 0, 1)); }

// dWeight (N J) += dY (T N)ᵀ · x (T J).
void linearBackwardWeight(const Args& args, Pool& pool) {
  float* dWeight = f32(args, 0);
  const int64_t n = dim(args, 0, 0), j = dim(args, 0, 1), tokens = dim(args, 2, 0);
  Product product = {n, j, tokens, operandOf(args, 1, n, false), operandOf(args, 2, j, false), dWeight, false, j, nullptr, nullptr, nullptr, nullptr, true};
  product.squares = takeSquares(args);
  product.add = takeZero(args) ? nullptr : dWeight;
  gemm(&product, 1, args.mixed, args.work, pool);
}

}  // namespace moe::MOE_KERNELS
