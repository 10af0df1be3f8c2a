// headCrossEntropyForward, headCrossEntropyBackward, weightedSumForward. Logits exist for one block of tokens at a time;
// blocks run one after another and each product inside is parallel, so dWeight sums the blocks in token order.
#include "gemm.h"
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t tokenBlock = 256;

struct Head {
  const float *x, *weight;
  const int32_t* targets;
  int64_t tokens, width, vocabulary;
  float* logits;   // tokenBlock × V
  Workspace work;  // what gemm() may use
};

Head read(const Args& args, int x) {
  const int64_t tokens = dim(args, x, 0), width = dim(args, x, 1), vocabulary = dim(args, x + 1, 0);
  const int64_t own = least(tokens, tokenBlock) * vocabulary, padded = roundUp(own, 16);
  const Workspace work = {args.work.shared + padded, args.work.sharedFloats - padded, args.work.perThread, args.work.perThreadFloats};
  return {f32(args, x), f32(args, x + 1), i32(args, x + 2), tokens, width, vocabulary, args.work.shared, work};
}

Need needOf(const Args& args, int x, int64_t productK) {
  const int64_t rows = least(dim(args, x, 0), tokenBlock), width = dim(args, x, 1), vocabulary = dim(args, x + 1, 0);
  const int64_t columns = most(packedFloats(vocabulary, width), packedFloats(width, most(vocabulary, rows)));
  Need need = gemmNeed(columns, productK);
  need.sharedFloats += roundUp(rows * vocabulary, 16);
  return need;
}

// logits = x[first, first + count) · weightᵀ.
void blockLogits(const Head& h, int64_t first, int64_t count, Pool& pool) {
  const Product product = {count, h.vocabulary, h.width, {h.x + first * h.width, h.width, true, nullptr}, {h.weight, h.width, true, nullptr}, h.logits, h.vocabulary, nullptr};
  gemm(&product, 1, h.work, pool);
}

// The target of token t, or −1 when it has none.
int64_t targetOf(const Head& h, int64_t t, Pool& pool) {
  if (h.targets[t] < h.vocabulary) return h.targets[t] < 0 ? -1 : h.targets[t];
  pool.fail("targets", t, h.targets[t], h.vocabulary);
  return -1;
}

// logits -> dLogits = dLoss·(softmax − one-hot) in place; zero for a token without a target.
void blockGradient(const Head& h, int64_t first, int64_t count, const float* lse, const float* dLoss, Pool& pool) {
  parallel(pool, count, [&](int64_t i, int) {
    float* MOE_RESTRICT row = h.logits + i * h.vocabulary;
    const int64_t t = first + i, target = targetOf(h, t, pool);
    if (target < 0) {
      memset(row, 0, h.vocabulary * sizeof(float));
      return;
    }
    exponentials(row, row, h.vocabulary, 1, lse[t]);
    row[target] -= 1;
    for (int64_t v = 0; v < h.vocabulary; v++) row[v] *= dLoss[t];
  });
}

}  // namespace

Need headCrossEntropyForwardNeed(const Args& args) { return needOf(args, 2, dim(args, 2, 1)); }

// loss (T), lse (T) from x (T D), weight (V D), targets (T).
void headCrossEntropyForward(const Args& args, Pool& pool) {
  float *loss = f32(args, 0), *lse = f32(args, 1);
  const Head h = read(args, 2);
  for (int64_t first = 0; first < h.tokens; first += tokenBlock) {
    const int64_t count = least(tokenBlock, h.tokens - first);
    blockLogits(h, first, count, pool);
    parallel(pool, count, [&](int64_t i, int) {
      float* row = h.logits + i * h.vocabulary;
      const int64_t t = first + i, target = targetOf(h, t, pool);
      const float logit = target < 0 ? 0 : row[target], top = largest(row, h.vocabulary);
      lse[t] = top + logf(exponentials(row, row, h.vocabulary, 1, top));
      loss[t] = target < 0 ? 0 : lse[t] - logit;
    });
  }
}

Need headCrossEntropyBackwardNeed(const Args& args) { return needOf(args, 2, most(dim(args, 3, 0), tokenBlock)); }

// dX (T D), dWeight (V D) from x (T D), weight (V D), targets (T), lse (T), dLoss (T).
void headCrossEntropyBackward(const Args& args, Pool& pool) {
  float *dX = f32(args, 0), *dWeight = f32(args, 1);
  const Head h = read(args, 2);
  for (int64_t first = 0; first < h.tokens; first += tokenBlock) {
    const int64_t count = least(tokenBlock, h.tokens - first);
    blockLogits(h, first, count, pool);
    blockGradient(h, first, count, f32(args, 5), f32(args, 6), pool);
    const Product input = {count, h.width, h.vocabulary, {h.logits, h.vocabulary, true, nullptr}, {h.weight, h.width, false, nullptr}, dX + first * h.width, h.width, nullptr};
    gemm(&input, 1, h.work, pool);
    const Product weight = {h.vocabulary, h.width, count, {h.logits, h.vocabulary, false, nullptr}, {h.x + first * h.width, h.width, false, nullptr}, dWeight, h.width, dWeight};
    gemm(&weight, 1, h.work, pool);
  }
}

// sum (1) = Σ values·weights (T), in double.
void weightedSumForward(const Args& args, Pool&) {
  const float *values = f32(args, 1), *weights = f32(args, 2);
  double sum = 0;
  for (int64_t t = 0; t < dim(args, 1, 0); t++) sum += static_cast<double>(values[t]) * static_cast<double>(weights[t]);
  f32(args, 0)[0] = static_cast<float>(sum);
}

}  // namespace moe::MOE_KERNELS
