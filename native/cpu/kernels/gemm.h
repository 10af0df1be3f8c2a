// float32 matrix products C = A·B (+ add, or + C): the one core under the linear, grouped, head and attention ops.
// Operands are packed into strips as wide as the register tile and multiplied by one microkernel. Every element of C is
// a sum over k in ascending order, in blocks of depthBlock: tiling and threads do not change its bits.
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
constexpr int64_t depthBlock = 512;

// A matrix seen as strips of vectors along k. Element (i, k) is data[row(i)·stride + k] if kContiguous, else
// data[row(k)·stride + i]; row(r) = rows ? rows[r] : r.
struct Operand {
  const float* data;
  int64_t stride;
  bool kContiguous;
  const int32_t* rows;
};

// c[i·cStride + j] = Σ_k a(i, k)·b(j, k) + add[i·cStride + j]. `add` may be null (no summand) or c itself (accumulate).
struct Product {
  int64_t m, n, k;
  Operand a, b;
  float* c;
  int64_t cStride;
  const float* add;
};

// Workspace of gemm() for products whose packed B needs `bFloats` in all and whose longest k is `k`; gemm() uses all that
// `work` offers and works in chunks when that is less than all of B.
Need gemmNeed(int64_t bFloats, int64_t k);
// Floats of an n × k operand B once packed.
int64_t packedFloats(int64_t n, int64_t k);

// All products, on all threads, in no order among them.
void gemm(const Product* products, int64_t count, const Workspace& work, Pool& pool);

// Packs rows [first, first + count) × [k0, k0 + depth) of an operand into strips [strip][k][width], zero-padded.
void packRows(float* to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth);
void packColumns(float* to, const Operand& from, int64_t first, int64_t count, int64_t k0, int64_t depth);

// c (m × n) = a·b + add on this thread, from packed strips; bStripStride is the distance between strips of b.
void multiplyPacked(const float* a, const float* b, int64_t bStripStride, int64_t m, int64_t n, int64_t depth, const float* add,
                    float* c, int64_t cStride);

}  // namespace moe::MOE_KERNELS
