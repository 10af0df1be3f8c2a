// Matrix products C = A·B (+ add, or + C): the one core under the linear, grouped, head and attention ops, in float32 or
// mixed (bf16 operands, float32 sums). Operands are packed into strips as wide as the register tile and multiplied by one
// microkernel. Every element of C is a sum over k in ascending order, in blocks of fixed depth: tiling and threads do not
// change its bits.
#pragma once

#include "kernel.h"

namespace moe::MOE_KERNELS {

// Register tile: tileRows × tileColumns floats of C.
#if MOE_LANES == 16
constexpr int64_t tileRows = 12, tileVectors = 2;
#elif defined(__aarch64__) || defined(_M_ARM64)
constexpr int64_t tileRows = 8, tileVectors = 3;
#else
constexpr int64_t tileRows = 6, tileVectors = 2;
#endif
constexpr int64_t tileColumns = tileVectors * lanes;

// What a product is computed in. A packed strip is [unit][width], a unit being one k (a float) or two (a pair of bf16), and
// always four bytes, so that both are counted in floats.
struct Float32 {
  static constexpr int64_t perUnit = 1;
};
struct Mixed {
  static constexpr int64_t perUnit = 2;
};

template <class Kind>
inline int64_t unitsOf(int64_t k) {
  return divideUp(k, Kind::perUnit);
}

// A matrix seen as strips of vectors along k. Element (i, k) is data[row(i)·stride + k] if kContiguous, else
// data[row(k)·stride + i]; row(r) = rows ? rows[r] : r. `half`: of bf16 (mixed products only), else of floats.
struct Operand {
  const void* data;
  int64_t stride;
  bool kContiguous;
  const int32_t* rows;
  bool half;
};

// Tensor i as rows of `stride` elements, from row `first` on (or from index `first` of `rows`).
inline Operand operandOf(const Args& args, int i, int64_t stride, bool kContiguous, int64_t first = 0, const int32_t* rows = nullptr) {
  return {elementOf(args, i, rows ? 0 : first * stride), stride, kContiguous, rows ? rows + first : nullptr, isHalf(args, i)};
}

// What becomes of a finished tile instead of being stored: rows × columns sums at `sums` (row stride `stride`), whose first
// is element (row, column) of the product. `context` is the product's own.
typedef void (*Finish)(const void* context, int64_t row, int64_t column, int64_t rows, int64_t columns, float* sums, int64_t stride);

// c[i·cStride + j] = Σ_k a(i, k)·b(j, k) + add[i·cStride + j]. `add` may be null (no summand) or c itself (accumulate);
// a bf16 c has none.
struct Product {
  int64_t m, n, k;
  Operand a, b;
  void* c;
  bool halfC;
  int64_t cStride;
  const float* add;
  const float* packedB = nullptr;  // all of B already packed, or null
  Finish finish = nullptr;
  const void* context = nullptr;
  bool streams = false;      // C is not read soon: where it is written once, past the caches
  float* squares = nullptr;  // of each register tile of C, rows of tiles; mixed products only
};

// Σ C² by register tile: how many sums a product m × n leaves.
inline int64_t squaresOf(int64_t m, int64_t n) { return divideUp(m, tileRows) * divideUp(n, tileColumns); }

// Workspace of gemm() for products whose packed B needs `bFloats` in all and whose longest k is `k`; gemm() uses all that
// `work` offers and works in chunks when that is less than all of B.
Need gemmNeed(bool mixed, int64_t bFloats, int64_t k);
// Floats of an n × k operand B once packed.
int64_t packedFloats(bool mixed, int64_t n, int64_t k);
// Packs `count` n × k operands B, each packedFloats(n, k) floats; the first is `b`, the next one `step` elements further on.
void packB(bool mixed, float* to, const Operand& b, int64_t n, int64_t k, int64_t count, int64_t step, Pool& pool);

// The op's weights as packB leaves them, packed now if they have changed; null where they are not kept or `rows` are too few to need it.
const float* keptWeights(const Args& args, const Operand& b, int64_t n, int64_t k, int64_t count, int64_t step, int64_t rows, Pool& pool);

// All products, on all threads, in no order among them.
void gemm(const Product* products, int64_t count, bool mixed, const Workspace& work, Pool& pool);

}  // namespace moe::MOE_KERNELS
