// Mixture-of-experts plumbing and products: dispatch, grouped linears, combine. Dropless: every assignment has a slot.
#include "gemm.h"
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t maxProducts = 64;  // experts handed to gemm() at a time

// Products of all experts, `make(e, first slot, slots)` each, in batches that share one tile queue.
template <class Make>
void groupedGemm(const Args& args, Pool& pool, const int32_t* offsets, int64_t experts, const Make& make) {
  Product products[maxProducts];
  for (int64_t begin = 0; begin < experts; begin += maxProducts) {
    const int64_t count = least(maxProducts, experts - begin);
    for (int64_t i = 0; i < count; i++) products[i] = make(begin + i, offsets[begin + i], offsets[begin + i + 1] - offsets[begin + i]);
    gemm(products, count, args.work, pool);
  }
}

// Rows [first, …) of a matrix, or of the rows that `rows` names.
Operand slotRows(const float* data, int64_t stride, bool kContiguous, const int32_t* rows, int64_t first) {
  return rows ? Operand{data, stride, kContiguous, rows + first} : Operand{data + first * stride, stride, kContiguous, nullptr};
}

}  // namespace

// counts (E), offsets (E+1), slotToken (S), slotIndex (S), tokenSlot (T K) from experts (T K): a stable counting sort.
void moeDispatchForward(const Args& args, Pool& pool) {
  int32_t *counts = i32(args, 0), *offsets = i32(args, 1), *slotToken = i32(args, 2), *slotIndex = i32(args, 3), *tokenSlot = i32(args, 4);
  const int32_t* chosen = i32(args, 5);
  const int64_t experts = dim(args, 0, 0), k = dim(args, 5, 1), assignments = elements(args, 5);
  memset(counts, 0, experts * sizeof(int32_t));
  for (int64_t i = 0; i < assignments; i++) {
    if (chosen[i] < 0 || chosen[i] >= experts) return pool.fail("experts", i, chosen[i], experts);
    counts[chosen[i]]++;
  }
  offsets[0] = 0;
  for (int64_t e = 0; e < experts; e++) offsets[e + 1] = offsets[e] + counts[e];
  // counts serves as the cursor of each expert and ends where it began.
  memset(counts, 0, experts * sizeof(int32_t));
  for (int64_t i = 0; i < assignments; i++) {
    const int32_t slot = offsets[chosen[i]] + counts[chosen[i]]++;
    slotToken[slot] = static_cast<int32_t>(i / k);
    slotIndex[slot] = static_cast<int32_t>(i);
    tokenSlot[i] = slot;
  }
}

// y (T D) = add? (T D) + the slots (S D) of tokenSlot (T K), j ascending.
void moeCombineForward(const Args& args, Pool& pool) {
  float* y = f32(args, 0);
  const float *slots = f32(args, 1), *add = f32(args, 3);
  const int32_t* tokenSlot = i32(args, 2);
  const int64_t tokens = dim(args, 0, 0), width = dim(args, 0, 1), k = dim(args, 2, 1);
  parallelRanges(pool, tokens, (k + 1) * width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      float* MOE_RESTRICT out = y + t * width;
      if (add) memcpy(out, add + t * width, width * sizeof(float));
      else memset(out, 0, width * sizeof(float));
      for (int64_t j = 0; j < k; j++) {
        const float* MOE_RESTRICT slot = slots + tokenSlot[t * k + j] * width;
        for (int64_t i = 0; i < width; i++) out[i] += slot[i];
      }
    }
  });
}

Need groupedLinearForwardNeed(const Args& args) {
  const int64_t experts = dim(args, 2, 0), n = dim(args, 2, 1), j = dim(args, 2, 2);
  return gemmNeed(experts * packedFloats(n, j), j);
}

// y (S N) from x (R J), weight (E N J), offsets (E+1), rows? (S).
void groupedLinearForward(const Args& args, Pool& pool) {
  const int32_t *offsets = i32(args, 3), *rows = i32(args, 4);
  const int64_t experts = dim(args, 2, 0), n = dim(args, 2, 1), j = dim(args, 2, 2);
  groupedGemm(args, pool, offsets, experts, [&](int64_t e, int64_t first, int64_t slots) {
    return Product{slots, n, j, slotRows(f32(args, 1), j, true, rows, first), {f32(args, 2) + e * n * j, j, true, nullptr}, f32(args, 0) + first * n, n, nullptr};
  });
}

Need groupedLinearBackwardInputNeed(const Args& args) {
  const int64_t experts = dim(args, 2, 0), n = dim(args, 2, 1), j = dim(args, 2, 2);
  return gemmNeed(experts * packedFloats(j, n), n);
}

// dX (S J) from dY (R N), weight (E N J), offsets (E+1), rows? (S).
void groupedLinearBackwardInput(const Args& args, Pool& pool) {
  const int32_t *offsets = i32(args, 3), *rows = i32(args, 4);
  const int64_t experts = dim(args, 2, 0), n = dim(args, 2, 1), j = dim(args, 2, 2);
  groupedGemm(args, pool, offsets, experts, [&](int64_t e, int64_t first, int64_t slots) {
    return Product{slots, j, n, slotRows(f32(args, 1), n, true, rows, first), {f32(args, 2) + e * n * j, j, false, nullptr}, f32(args, 0) + first * j, j, nullptr};
  });
}

Need groupedLinearBackwardWeightNeed(const Args& args) {
  // The slots are not an argument's size without rows; x has at least as many rows as it then has slots.
  const int64_t slots = most(dim(args, 2, 0), most(dim(args, 1, 0), most(args.tensors[4].rank ? dim(args, 4, 0) : 0, args.tensors[5].rank ? dim(args, 5, 0) : 0)));
  return gemmNeed(packedFloats(dim(args, 0, 2), slots), slots);
}

// dWeight (E N J) += from dY (Y N), x (X J), offsets (E+1), rowsY? (S), rowsX? (S).
void groupedLinearBackwardWeight(const Args& args, Pool& pool) {
  float* dWeight = f32(args, 0);
  const int32_t *offsets = i32(args, 3), *rowsY = i32(args, 4), *rowsX = i32(args, 5);
  const int64_t experts = dim(args, 0, 0), n = dim(args, 0, 1), j = dim(args, 0, 2);
  groupedGemm(args, pool, offsets, experts, [&](int64_t e, int64_t first, int64_t slots) {
    float* c = dWeight + e * n * j;
    return Product{n, j, slots, slotRows(f32(args, 1), n, false, rowsY, first), slotRows(f32(args, 2), j, false, rowsX, first), c, j, c};
  });
}

}  // namespace moe::MOE_KERNELS
