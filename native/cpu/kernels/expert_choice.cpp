// Expert choice: every expert takes its most probable tokens of each sequence (arXiv 2202.09368). And the load of layers that share experts.
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

// The largest bits that at least `wanted` of `bits` reach. Probabilities are not negative, so their bits are ordered as they are.
uint32_t thresholdOf(const uint32_t* bits, int64_t n, int64_t wanted) {
  uint32_t low = 0, high = UINT32_MAX;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += bits[i] >= middle;
    if (count >= wanted) low = middle;
    else high = middle;
  }
  return low;
}

}  // namespace

// total (E) = counts (E) + add? (E).
void addCountsForward(const Args& args, Pool&) {
  int32_t* total = i32(args, 0);
  const int32_t *counts = i32(args, 1), *add = i32(args, 2);
  for (int64_t e = 0; e < dim(args, 0, 0); e++) total[e] = counts[e] + (add ? add[e] : 0);
}

Need expertChoiceForwardNeed(const Args& args) { return {0, static_cast<int64_t>(args.attrs[0])}; }

// counts (E), offsets (E+1), slotToken (S), slotIndex (S), tokenSlot (T E) from probs (T E); attributes sequence, capacity.
void expertChoiceForward(const Args& args, Pool& pool) {
  int32_t *counts = i32(args, 0), *offsets = i32(args, 1), *slotToken = i32(args, 2), *slotIndex = i32(args, 3), *tokenSlot = i32(args, 4);
  const float* probs = f32(args, 5);
  const int64_t tokens = dim(args, 5, 0), experts = dim(args, 5, 1);
  const int64_t sequence = static_cast<int64_t>(args.attrs[0]), capacity = static_cast<int64_t>(args.attrs[1]), sequences = tokens / sequence;
  for (int64_t e = 0; e < experts; e++) counts[e] = static_cast<int32_t>(sequences * capacity);
  for (int64_t e = 0; e <= experts; e++) offsets[e] = static_cast<int32_t>(e * sequences * capacity);
  parallel(pool, sequences * experts, [&](int64_t tile, int thread) {
    const int64_t expert = tile % experts, first = tile / experts * sequence;
    uint32_t* bits = reinterpret_cast<uint32_t*>(threadMemory(args, thread));
    for (int64_t i = 0; i < sequence; i++) memcpy(bits + i, probs + (first + i) * experts + expert, sizeof(float));
    const uint32_t threshold = thresholdOf(bits, sequence, capacity);
    int64_t ties = capacity;
    for (int64_t i = 0; i < sequence; i++) ties -= bits[i] > threshold;
    int64_t slot = offsets[expert] + tile / experts * capacity;
    for (int64_t i = 0; i < sequence; i++) {
      const int64_t index = (first + i) * experts + expert;
      const bool isTaken = bits[i] > threshold || (bits[i] == threshold && ties-- > 0);
      tokenSlot[index] = isTaken ? static_cast<int32_t>(slot) : -1;
      if (!isTaken) continue;
      slotToken[slot] = static_cast<int32_t>(first + i);
      slotIndex[slot++] = static_cast<int32_t>(index);
    }
  });
}

// dLogits (T E) from dGate, probs (T E), lse (T), tokenSlot (T E); attribute routerZScale.
void expertChoiceBackward(const Args& args, Pool& pool) {
  float* dLogits = f32(args, 0);
  const float *dGate = f32(args, 1), *probs = f32(args, 2), *lse = f32(args, 3);
  const int32_t* tokenSlot = i32(args, 4);
  const int64_t tokens = dim(args, 0, 0), experts = dim(args, 0, 1);
  const float perLse = static_cast<float>(args.attrs[0] * 2 / static_cast<double>(tokens));
  parallelRanges(pool, tokens, 4 * experts, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      float* row = dLogits + t * experts;
      const float* p = probs + t * experts;
      for (int64_t e = 0; e < experts; e++) row[e] = tokenSlot[t * experts + e] < 0 ? 0 : dGate[t * experts + e];
      const float along = dot(row, p, experts), z = perLse * lse[t];
      for (int64_t e = 0; e < experts; e++) row[e] = p[e] * (row[e] - along + z);
    }
  });
}

}  // namespace moe::MOE_KERNELS
