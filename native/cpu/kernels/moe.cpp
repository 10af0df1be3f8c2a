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
    gemm(products, count, args.mixed, args.work, pool);
  }
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

// y (T D) = add? (T D) + the slots (S D) of tokenSlot (T K), j ascending; a negative slot adds nothing.
void moeCombineForward(const Args& args, Pool& pool) {
  float* y = f32(args, 0);
  const float* add = f32(args, 3);
  const int32_t* tokenSlot = i32(args, 2);
  const int64_t tokens = dim(args, 0, 0), width = dim(args, 0, 1), k = dim(args, 2, 1);
  withElements(args, 1, [&](const auto* slots) {
    parallelRanges(pool, tokens, (k + 1) * width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; t++) {
        const int32_t* slot = tokenSlot + t * k;
        int64_t i = 0;
        for (; i + lanes <= width; i += lanes) {
          Vec sum = add ? load(add + t * width + i) : splat(0);
          for (int64_t j = 0; j < k; j++) {
            if (slot[j] >= 0) sum = sum + load(slots + slot[j] * width + i);
          }
          store(y + t * width + i, sum);
        }
        for (; i < width; i++) {
          float sum = add ? add[t * width + i] : 0;
          for (int64_t j = 0; j < k; j++) {
            if (slot[j] >= 0) sum += toFloat(slots[slot[j] * width + i]);
          }
          y[t * width + i] = sum;
        }
      }
    });
  });
}

int64_t groupedLinearForwardPacked(const Args& args) { return dim(args, 2, 0) * packedFloats(args.mixed, dim(args, 2, 1), dim(args, 2, 2)); }

Need groupedLinearForwardNeed(const Args& args) {
  const int64_t experts = dim(args, 2, 0), n = dim(args, 2, 1), j = dim(args, 2, 2);
  return gemmNeed(args.mixed, experts * packedFloats(args.mixed, n, j), j);
}

// y (S N) from x (R J), weight (E N J), offsets (E+1), rows? (S).
void groupedLinearForward(const Args& args, Pool& pool) {
  const int32_t *offsets = i32(args, 3), *rows = i32(args, 4);
  const int64_t experts = dim(args, 2, 0), n = dim(args, 2, 1), j = dim(args, 2, 2);
  const float* packed = keptWeights(args, operandOf(args, 2, j, true), n, j, experts, n * j, dim(args, 0, 0), pool);
  const int64_t expertFloats = packedFloats(args.mixed, n, j);
  groupedGemm(args, pool, offsets, experts, [&](int64_t e, int64_t first, int64_t slots) {
    return Product{slots, n, j, operandOf(args, 1, j, true, first, rows), operandOf(args, 2, j, true, e * n), elementOf(args, 0, first * n), isHalf(args, 0), n, nullptr, packed ? packed + e * expertFloats : nullptr};
  });
}

int64_t groupedLinearBackwardInputPacked(const Args& args) { return dim(args, 2, 0) * packedFloats(args.mixed, dim(args, 2, 2), dim(args, 2, 1)); }

Need groupedLinearBackwardInputNeed(const Args& args) {
  const int64_t experts = dim(args, 2, 0), n = dim(args, 2, 1), j = dim(args, 2, 2);
  return gemmNeed(args.mixed, experts * packedFloats(args.mixed, j, n), n);
}

// dX (S J) from dY (R N), weight (E N J), offsets (E+1), rows? (S).
void groupedLinearBackwardInput(const Args& args, Pool& pool) {
  const int32_t *offsets = i32(args, 3), *rows = i32(args, 4);
  const int64_t experts = dim(args, 2, 0), n = dim(args, 2, 1), j = dim(args, 2, 2);
  const float* packed = keptWeights(args, operandOf(args, 2, j, false), j, n, experts, n * j, dim(args, 0, 0), pool);
  const int64_t expertFloats = packedFloats(args.mixed, j, n);
  groupedGemm(args, pool, offsets, experts, [&](int64_t e, int64_t first, int64_t slots) {
    return Product{slots, j, n, operandOf(args, 1, n, true, first, rows), operandOf(args, 2, j, false, e * n), elementOf(args, 0, first * j), isHalf(args, 0), j, nullptr, packed ? packed + e * expertFloats : nullptr};
  });
}

Need groupedLinearBackwardWeightNeed(const Args& args) {
  // The slots are not an argument's size without rows; x has at least as many rows as it then has slots.
  const int64_t slots = most(dim(args, 2, 0), most(dim(args, 1, 0), most(args.tensors[4].rank ? dim(args, 4, 0) : 0, args.tensors[5].rank ? dim(args, 5, 0) : 0)));
  return gemmNeed(args.mixed, packedFloats(args.mixed, dim(args, 0, 2), slots), slots);
}

int64_t groupedLinearBackwardWeightSquares(const Args& args) { return dim(args, 0, 0) * squaresOf(dim(args, 0, 1), dim(args, 0, 2)); }

// dWeight (E N J) += from dY (Y N), x (X J), offsets (E+1), rowsY? (S), rowsX? (S).
void groupedLinearBackwardWeight(const Args& args, Pool& pool) {
  float* dWeight = f32(args, 0);
  const int32_t *offsets = i32(args, 3), *rowsY = i32(args, 4), *rowsX = i32(args, 5);
  const int64_t experts = dim(args, 0, 0), n = dim(args, 0, 1), j = dim(args, 0, 2);
  float* squares = takeSquares(args);
  const bool isZero = takeZero(args);
  groupedGemm(args, pool, offsets, experts, [&](int64_t e, int64_t first, int64_t slots) {
    float* c = dWeight + e * n * j;
    Product product = {n, j, slots, operandOf(args, 1, n, false, first, rowsY), operandOf(args, 2, j, false, first, rowsX), c, false, j, isZero ? nullptr : c, nullptr, nullptr, nullptr, true};
    if (squares) product.squares = squares + e * squaresOf(n, j);
    return product;
  });
}

}  // namespace moe::MOE_KERNELS
