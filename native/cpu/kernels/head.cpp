// headCrossEntropyForward, headCrossEntropyBackward, the two fused, weightedSumForward. The forward keeps no logits: each
// finished tile leaves the softmax of its strips. The backward turns tiles of logits into their gradient, for one block of
// tokens at a time; blocks run one after another, so dWeight sums them in token order. Fused, logits are computed once.
#include "gemm.h"
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

struct Head {
  const int32_t* targets;
  int64_t tokens, width, vocabulary;
};

Head read(const Args& args, int x) { return {i32(args, x + 2), dim(args, x, 0), dim(args, x, 1), dim(args, x + 1, 0)}; }

// The target of token t, or −1 when it has none; one that is not there was reported before.
int64_t targetOf(const Head& h, int64_t t) { return h.targets[t] < 0 || h.targets[t] >= h.vocabulary ? -1 : h.targets[t]; }

void checkTargets(const Head& h, Pool& pool) {
  for (int64_t t = 0; t < h.tokens; t++) {
    if (h.targets[t] >= h.vocabulary) return pool.fail("targets", t, h.targets[t], h.vocabulary);
  }
}

// Largest logit of a strip of the vocabulary for one token, and Σ e^(logit − top).
struct Strip {
  float top, sum;
};

struct Softmax {
  Head head;
  float* loss;  // the target's logit, for now
  Strip* strips;
  int64_t stripCount;
};

void finishSoftmax(const void* context, int64_t row, int64_t column, int64_t rows, int64_t columns, float* sums, int64_t stride) {
  const Softmax& s = *static_cast<const Softmax*>(context);
  for (int64_t i = 0; i < rows; i++) {
    float* logits = sums + i * stride;
    const int64_t t = row + i, target = targetOf(s.head, t) - column;
    if (target >= 0 && target < columns) s.loss[t] = logits[target];
    for (int64_t j = 0; j < columns; j += tileColumns) {
      const int64_t count = least(tileColumns, columns - j);
      const float top = largest(logits + j, count);
      s.strips[t * s.stripCount + (column + j) / tileColumns] = {top, exponentials(logits + j, logits + j, count, 1, top)};
    }
  }
}

// log Σ e^logit of a token from its strips.
float mergeStrips(const Strip* strips, int64_t count) {
  float top = -INFINITY;
  for (int64_t i = 0; i < count; i++) top = strips[i].top > top ? strips[i].top : top;
  float sum = 0;
  for (int64_t i = 0; i < count; i++) sum += strips[i].sum * expf(strips[i].top - top);
  return top + logf(sum);
}

// Floats of a rows × vocabulary block of gradients.
int64_t blockFloats(const Args& args, int64_t rows, int64_t vocabulary) { return roundUp(rows * vocabulary / (args.mixed ? 2 : 1), 16) + 16; }

// Tokens of a block: as many as keep its gradients in the last cache.
int64_t blockTokens(int64_t tokens, int64_t vocabulary) { return least(tokens, roundUp(most(256, (1 << 23) / vocabulary), 256)); }

template <class To>
struct Gradient {
  Head head;
  const float *lse, *dLoss;
  int64_t first;
  To* dLogits;
};

// dLoss·(softmax − one-hot); zero for a token without a target.
template <class To>
void finishGradient(const void* context, int64_t row, int64_t column, int64_t rows, int64_t columns, float* sums, int64_t stride) {
  const Gradient<To>& g = *static_cast<const Gradient<To>*>(context);
  for (int64_t i = 0; i < rows; i++) {
    float* logits = sums + i * stride;
    To* out = g.dLogits + (row + i) * g.head.vocabulary + column;
    const int64_t t = g.first + row + i, known = targetOf(g.head, t), target = known - column;
    if (known < 0) {
      memset(out, 0, columns * sizeof(To));
      continue;
    }
    const Vec lse = splat(g.lse[t]), dLoss = splat(g.dLoss[t]);
    if (target >= 0 && target < columns) storeOne(out + target, g.dLoss[t] * (expf(logits[target] - g.lse[t]) - 1));
    const To aside = out[target >= 0 && target < columns ? target : 0];
    int64_t j = 0;
    for (; j + lanes <= columns; j += lanes) store(out + j, dLoss * exponential(load(logits + j) - lse));
    if (j < columns) storePart(out + j, dLoss * exponential(loadPart(logits + j, columns - j, 0) - lse), columns - j);
    if (target >= 0 && target < columns) out[target] = aside;
  }
}

// What the backward keeps in the workspace: the weight packed for both products, one block of gradients, and gemm()'s own.
struct Memory {
  float *forward, *backward, *dLogits;
  Workspace rest;
};

Memory cut(const Args& args, int64_t width, int64_t vocabulary, int64_t rows) {
  Memory m;
  m.forward = args.work.shared;
  m.backward = m.forward + packedFloats(args.mixed, vocabulary, width);
  m.dLogits = m.backward + packedFloats(args.mixed, width, vocabulary);
  float* rest = m.dLogits + blockFloats(args, rows, vocabulary);
  m.rest = {rest, args.work.sharedFloats - (rest - args.work.shared), args.work.perThread, args.work.perThreadFloats};
  return m;
}

// Gradients of all blocks. `x` is the position of x among the tensors; dX and dWeight stand before it, weight and targets
// after it. makeBlock(first, count, logits, rest) computes the gradients of a block of logits, given the product that is them.
template <class MakeBlock>
void gradients(const Args& args, Pool& pool, int x, const MakeBlock& makeBlock) {
  float *dX = f32(args, x - 2), *dWeight = f32(args, x - 1);
  const Head h = read(args, x);
  const int64_t tokenBlock = blockTokens(h.tokens, h.vocabulary);
  const Memory m = cut(args, h.width, h.vocabulary, tokenBlock);
  const bool isZero = takeZero(args);
  const Operand weight = operandOf(args, x + 1, h.width, true);
  packB(args.mixed, m.forward, weight, h.vocabulary, h.width, 1, 0, pool);
  packB(args.mixed, m.backward, operandOf(args, x + 1, h.width, false), h.width, h.vocabulary, 1, 0, pool);
  for (int64_t first = 0; first < h.tokens; first += tokenBlock) {
    const int64_t count = least(tokenBlock, h.tokens - first);
    const Product logits = {count, h.vocabulary, h.width, operandOf(args, x, h.width, true, first), weight, nullptr, false, 0, nullptr, m.forward};
    makeBlock(h, first, count, logits, m);
    const Product input = {count, h.width, h.vocabulary, {m.dLogits, h.vocabulary, true, nullptr, args.mixed}, {}, dX + first * h.width, false, h.width, nullptr, m.backward};
    gemm(&input, 1, args.mixed, m.rest, pool);
    const Product weights = {h.vocabulary, h.width, count, {m.dLogits, h.vocabulary, false, nullptr, args.mixed}, operandOf(args, x, h.width, false, first), dWeight, false, h.width, isZero && first == 0 ? nullptr : dWeight};
    gemm(&weights, 1, args.mixed, m.rest, pool);
  }
}

template <class To>
void backward(const Args& args, Pool& pool) {
  gradients(args, pool, 2, [&](const Head& h, int64_t first, int64_t, Product logits, const Memory& m) {
    const Gradient<To> gradient = {h, f32(args, 5), f32(args, 6), first, reinterpret_cast<To*>(m.dLogits)};
    logits.finish = finishGradient<To>;
    logits.context = &gradient;
    gemm(&logits, 1, args.mixed, m.rest, pool);
  });
}

// A block of the fused forward and backward: e^(logit − top of its strip) first, then the gradient in its place.
template <class To>
struct Fused {
  Softmax softmax;
  int64_t first;
  To* dLogits;
};

template <class To>
void finishFused(const void* context, int64_t row, int64_t column, int64_t rows, int64_t columns, float* sums, int64_t stride) {
  const Fused<To>& f = *static_cast<const Fused<To>*>(context);
  const Softmax& s = f.softmax;
  for (int64_t i = 0; i < rows; i++) {
    const float* logits = sums + i * stride;
    To* out = f.dLogits + (row + i) * s.head.vocabulary + column;
    const int64_t t = f.first + row + i, target = targetOf(s.head, t) - column;
    if (target >= 0 && target < columns) s.loss[t] = logits[target];
    for (int64_t j = 0; j < columns; j += tileColumns) {
      const int64_t count = least(tileColumns, columns - j);
      const float top = largest(logits + j, count);
      s.strips[(row + i) * s.stripCount + (column + j) / tileColumns] = {top, exponentials(out + j, logits + j, count, 1, top)};
    }
  }
}

// row *= factor.
template <class To>
void scaleRow(To* row, float factor, int64_t count) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) store(row + i, load(row + i) * splat(factor));
  if (i < count) storePart(row + i, loadPart(row + i, count - i, 0) * splat(factor), count - i);
}

// Loss, lse and dLogits of token t from what finishFused left.
template <class To>
void finishToken(const Fused<To>& f, int64_t t, float* lse, float dLoss) {
  const Softmax& s = f.softmax;
  const int64_t row = t - f.first, target = targetOf(s.head, t), vocabulary = s.head.vocabulary;
  const Strip* strips = s.strips + row * s.stripCount;
  To* out = f.dLogits + row * vocabulary;
  lse[t] = mergeStrips(strips, s.stripCount);
  s.loss[t] = target < 0 ? 0 : lse[t] - s.loss[t];
  if (target < 0) {
    memset(out, 0, vocabulary * sizeof(To));
    return;
  }
  for (int64_t i = 0; i < s.stripCount; i++) scaleRow(out + i * tileColumns, dLoss * expf(strips[i].top - lse[t]), least(tileColumns, vocabulary - i * tileColumns));
  storeOne(out + target, toFloat(out[target]) - dLoss);
}

template <class To>
void fused(const Args& args, Pool& pool) {
  float *loss = f32(args, 0), *lse = f32(args, 1);
  const float* dLoss = f32(args, 7);
  gradients(args, pool, 4, [&](const Head& h, int64_t first, int64_t count, Product logits, const Memory& m) {
    const int64_t stripCount = divideUp(h.vocabulary, tileColumns);
    // The strips of a block lie where gemm() will pack the tokens for dWeight.
    const Fused<To> f = {{h, loss, reinterpret_cast<Strip*>(m.rest.shared), stripCount}, first, reinterpret_cast<To*>(m.dLogits)};
    logits.finish = finishFused<To>;
    logits.context = &f;
    gemm(&logits, 1, args.mixed, m.rest, pool);
    parallelRanges(pool, count, h.vocabulary / 4, [&](int64_t begin, int64_t end) {
      for (int64_t t = first + begin; t < first + end; t++) finishToken(f, t, lse, dLoss[t]);
    });
  });
}

Need gradientsNeed(const Args& args, int x) {
  const int64_t width = dim(args, x, 1), vocabulary = dim(args, x + 1, 0), rows = blockTokens(dim(args, x, 0), vocabulary);
  Need need = gemmNeed(args.mixed, packedFloats(args.mixed, width, rows), most(vocabulary, rows));
  need.sharedFloats = most(need.sharedFloats, 2 * rows * divideUp(vocabulary, tileColumns));
  need.sharedFloats += packedFloats(args.mixed, vocabulary, width) + packedFloats(args.mixed, width, vocabulary) + blockFloats(args, rows, vocabulary);
  return need;
}

}  // namespace

Need headCrossEntropyForwardNeed(const Args& args) {
  const int64_t tokens = dim(args, 2, 0), width = dim(args, 2, 1), vocabulary = dim(args, 3, 0);
  Need need = gemmNeed(args.mixed, packedFloats(args.mixed, vocabulary, width), width);
  need.sharedFloats += roundUp(2 * tokens * divideUp(vocabulary, tileColumns), 16);
  return need;
}

// loss (T), lse (T) from x (T D), weight (V D), targets (T).
void headCrossEntropyForward(const Args& args, Pool& pool) {
  float *loss = f32(args, 0), *lse = f32(args, 1);
  const Head h = read(args, 2);
  checkTargets(h, pool);
  const int64_t stripCount = divideUp(h.vocabulary, tileColumns), own = roundUp(2 * h.tokens * stripCount, 16);
  const Softmax softmax = {h, loss, reinterpret_cast<Strip*>(args.work.shared), stripCount};
  const Workspace rest = {args.work.shared + own, args.work.sharedFloats - own, args.work.perThread, args.work.perThreadFloats};
  const Product logits = {h.tokens, h.vocabulary, h.width, operandOf(args, 2, h.width, true), operandOf(args, 3, h.width, true), nullptr, false, 0, nullptr, nullptr, finishSoftmax, &softmax};
  gemm(&logits, 1, args.mixed, rest, pool);
  parallelRanges(pool, h.tokens, 8 * stripCount, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      lse[t] = mergeStrips(softmax.strips + t * stripCount, stripCount);
      loss[t] = targetOf(h, t) < 0 ? 0 : lse[t] - loss[t];
    }
  });
}

Need headCrossEntropyBackwardNeed(const Args& args) { return gradientsNeed(args, 2); }

// dX (T D), dWeight (V D) from x (T D), weight (V D), targets (T), lse (T), dLoss (T).
void headCrossEntropyBackward(const Args& args, Pool& pool) {
  checkTargets(read(args, 2), pool);
#if MOE_BF16
  if (args.mixed) return backward<Half>(args, pool);
#endif
  backward<float>(args, pool);
}

Need headCrossEntropyNeed(const Args& args) { return gradientsNeed(args, 4); }

// Both at once: loss (T), lse (T), dX (T D), dWeight (V D) from x (T D), weight (V D), targets (T), dLoss (T).
void headCrossEntropy(const Args& args, Pool& pool) {
  checkTargets(read(args, 4), pool);
#if MOE_BF16
  if (args.mixed) return fused<Half>(args, pool);
#endif
  fused<float>(args, pool);
}

// sum (1) = Σ values·weights (T), in double.
void weightedSumForward(const Args& args, Pool&) {
  const float *values = f32(args, 1), *weights = f32(args, 2);
  double sum = 0;
  for (int64_t t = 0; t < dim(args, 1, 0); t++) sum += static_cast<double>(values[t]) * static_cast<double>(weights[t]);
  f32(args, 0)[0] = static_cast<float>(sum);
}

}  // namespace moe::MOE_KERNELS
