// The router: softmax over all experts, top-k, gates (one by one, and in one go for inference), the two auxiliary losses and their common backward.
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t expertBlock = 16, tokenBlock = 32;  // logits that are computed at a time
constexpr int64_t lossBlock = 256;  // tokens whose terms are summed before the blocks are

// The k most probable experts, most probable first; the lower one of equals.
void bestOf(const float* probs, int64_t experts, int32_t* chosen, int64_t k) {
  for (int64_t e = 0; e < experts; e++) {
    int64_t place = least(e, k);
    if (place == k && !(probs[e] > probs[chosen[--place]])) continue;
    for (; place > 0 && probs[e] > probs[chosen[place - 1]]; place--) chosen[place] = chosen[place - 1];
    chosen[place] = static_cast<int32_t>(e);
  }
}

void softmaxRow(float* probs, float* lse, const float* logits, int64_t experts) {
  const float top = largest(logits, experts);
  const float sum = exponentials(probs, logits, experts, 1, top);
  for (int64_t e = 0; e < experts; e++) probs[e] /= sum;
  *lse = top + logf(sum);
}

void gateRow(float* gate, const float* probs, const int32_t* chosen, int64_t k, bool normalise) {
  float sum = 0;
  for (int64_t j = 0; j < k; j++) sum += gate[j] = probs[chosen[j]];
  if (!normalise) return;
  for (int64_t j = 0; j < k; j++) gate[j] /= sum;
}

}  // namespace

Need routerForwardNeed(const Args& args) { return {dim(args, 0, 0) * dim(args, 3, 0), 0}; }

// experts (T K), gate (T K) from x (T D), weight (E D); attribute normalise. Plain dot products, whose sums do not depend on T.
void routerForward(const Args& args, Pool& pool) {
  int32_t* chosen = i32(args, 0);
  float *gate = f32(args, 1), *logits = args.work.shared;
  const float *x = f32(args, 2), *weight = f32(args, 3);
  const int64_t tokens = dim(args, 0, 0), k = dim(args, 0, 1), width = dim(args, 2, 1), experts = dim(args, 3, 0);
  const int64_t blocks = divideUp(experts, expertBlock);
  parallel(pool, blocks * divideUp(tokens, tokenBlock), [&](int64_t job, int) {
    const int64_t firstExpert = job % blocks * expertBlock, firstToken = job / blocks * tokenBlock;
    for (int64_t t = firstToken; t < least(tokens, firstToken + tokenBlock); t++) {
      for (int64_t e = firstExpert; e < least(experts, firstExpert + expertBlock); e++) logits[t * experts + e] = dot(x + t * width, weight + e * width, width);
    }
  });
  parallelRanges(pool, tokens, k * experts, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      float *row = logits + t * experts, lse;
      softmaxRow(row, &lse, row, experts);
      bestOf(row, experts, chosen + t * k, k);
      gateRow(gate + t * k, row, chosen + t * k, k, args.attrs[0] != 0);
    }
  });
}

// probs (T E), lse (T) from logits (T E).
void routerSoftmaxForward(const Args& args, Pool& pool) {
  float *probs = f32(args, 0), *lse = f32(args, 1);
  const float* logits = f32(args, 2);
  const int64_t tokens = dim(args, 2, 0), experts = dim(args, 2, 1);
  parallelRanges(pool, tokens, 4 * experts, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) softmaxRow(probs + t * experts, lse + t, logits + t * experts, experts);
  });
}

// experts (T K) from probs (T E).
void routerTopKForward(const Args& args, Pool& pool) {
  int32_t* chosen = i32(args, 0);
  const float* probs = f32(args, 1);
  const int64_t tokens = dim(args, 0, 0), k = dim(args, 0, 1), experts = dim(args, 1, 1);
  parallelRanges(pool, tokens, k * experts, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) bestOf(probs + t * experts, experts, chosen + t * k, k);
  });
}

// gate (T K) from probs (T E), experts (T K); attribute normalise.
void routerGateForward(const Args& args, Pool& pool) {
  float* gate = f32(args, 0);
  const float* probs = f32(args, 1);
  const int32_t* chosen = i32(args, 2);
  const int64_t tokens = dim(args, 0, 0), k = dim(args, 0, 1), experts = dim(args, 1, 1);
  const bool normalise = args.attrs[0] != 0;
  parallelRanges(pool, tokens, 4 * k, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) gateRow(gate + t * k, probs + t * experts, chosen + t * k, k, normalise);
  });
}

Need routerLossForwardNeed(const Args& args) {
  return {2 * divideUp(dim(args, 1, 0), lossBlock) * (dim(args, 1, 1) + 1), 0};
}

// losses[layer] (of L 2) from probs (T E), lse (T), counts (E); attributes assignments, layer. Sums in double over blocks of tokens.
void routerLossForward(const Args& args, Pool& pool) {
  const float *probs = f32(args, 1), *lse = f32(args, 2);
  const int32_t* counts = i32(args, 3);
  const int64_t tokens = dim(args, 1, 0), experts = dim(args, 1, 1), blocks = divideUp(tokens, lossBlock);
  double* sums = reinterpret_cast<double*>(args.work.shared);  // per block: Σ probs of each expert, Σ lse²
  parallel(pool, blocks, [&](int64_t block, int) {
    double* MOE_RESTRICT row = sums + block * (experts + 1);
    for (int64_t e = 0; e <= experts; e++) row[e] = 0;
    for (int64_t t = block * lossBlock; t < least(tokens, (block + 1) * lossBlock); t++) {
      for (int64_t e = 0; e < experts; e++) row[e] += static_cast<double>(probs[t * experts + e]);
      row[experts] += static_cast<double>(lse[t]) * static_cast<double>(lse[t]);
    }
  });
  double balance = 0, z = 0;
  for (int64_t e = 0; e <= experts; e++) {
    double sum = 0;
    for (int64_t block = 0; block < blocks; block++) sum += sums[block * (experts + 1) + e];
    if (e < experts) balance += counts[e] * sum;
    else z = sum;
  }
  float* out = f32(args, 0) + 2 * static_cast<int64_t>(args.attrs[1]);
  out[0] = static_cast<float>(static_cast<double>(experts) * balance / (args.attrs[0] * static_cast<double>(tokens)));
  out[1] = static_cast<float>(z / static_cast<double>(tokens));
}

// dLogits (T E) from dGate (T K), probs (T E), lse (T), experts (T K), gate (T K), counts (E);
// attributes normalise, loadBalanceScale, routerZScale. dLogits holds ∂/∂probs first, then the softmax's backward.
void routerBackward(const Args& args, Pool& pool) {
  float* dLogits = f32(args, 0);
  const float *dGate = f32(args, 1), *probs = f32(args, 2), *lse = f32(args, 3), *gate = f32(args, 5);
  const int32_t *chosen = i32(args, 4), *counts = i32(args, 6);
  const int64_t tokens = dim(args, 2, 0), experts = dim(args, 2, 1), k = dim(args, 1, 1);
  const bool normalise = args.attrs[0] != 0;
  const double tokenCount = static_cast<double>(tokens);
  const float perCount = static_cast<float>(args.attrs[1] * static_cast<double>(experts) / (tokenCount * tokenCount * static_cast<double>(k)));
  const float perLse = static_cast<float>(args.attrs[2] * 2 / tokenCount);
  parallelRanges(pool, tokens, 4 * experts, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      float* MOE_RESTRICT row = dLogits + t * experts;
      const float* MOE_RESTRICT p = probs + t * experts;
      for (int64_t e = 0; e < experts; e++) row[e] = perCount * static_cast<float>(counts[e]);
      float mean = 0, sum = 1;
      if (normalise) {
        sum = 0;
        for (int64_t j = 0; j < k; j++) {
          mean += dGate[t * k + j] * gate[t * k + j];
          sum += p[chosen[t * k + j]];
        }
      }
      for (int64_t j = 0; j < k; j++) row[chosen[t * k + j]] += (dGate[t * k + j] - mean) / sum;
      // The small z term joins last: inside the difference it would drown in its rounding.
      const float along = dot(row, p, experts), z = perLse * lse[t];
      for (int64_t e = 0; e < experts; e++) row[e] = p[e] * (row[e] - along + z);
    }
  });
}

}  // namespace moe::MOE_KERNELS
