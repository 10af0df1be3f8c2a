// Blockwise attention with an online softmax, on one thread: what attentionForward and attentionCachedForward share.
// Keys and values are packed once per key-value head; the blocks of queries are then independent tiles. The sizes of the
// blocks are those of the register tile, so they differ between instruction sets, never between thread counts.
#pragma once

#include "microkernel.h"

namespace moe::MOE_KERNELS {

constexpr int64_t queryBlock = 8 * tileRows;
constexpr int64_t keyBlock = 128 / tileColumns * tileColumns;

// What probabilities are stored as before they are multiplied.
template <class Kind>
struct RowOf {
  typedef float Type;
};
#if MOE_BF16
template <>
struct RowOf<Mixed> {
  typedef Half Type;
};
#endif

template <class Kind>
Operand rowOperand(const typename RowOf<Kind>::Type* data, int64_t stride, bool kContiguous) {
  return {data, stride, kContiguous, nullptr, sizeof(*data) == sizeof(Half)};
}

// `keys` packed rows of one key-value head: k as columns of q·kᵀ, v as columns of p·v.
struct PackedHead {
  const float *k, *v;
  int64_t keys;
};

// Floats of one packed head, and of what one thread needs to attend.
int64_t packedHeadFloats(bool mixed, int64_t keys, int64_t width);
int64_t attendFloats(int64_t width);

// A packed head at `from`, as packHead left it.
PackedHead packedHead(bool mixed, const float* from, int64_t keys, int64_t width);

// Packs rows 0..keys of k and v (`width` wide) to `to`.
void packHead(bool mixed, float* to, const Operand& k, const Operand& v, int64_t keys, int64_t width);

// Up to queryBlock queries of one head; query i sees the first visible[i] keys (0: its output is 0).
struct QueryBlock {
  Operand q;
  void* o;
  bool halfO;
  float* lse;  // may be null
  int64_t count, oStride, lseStride, width;
  const int64_t* visible;
};

// o = softmax(q·kᵀ/√width)·v and its logsumexp; `memory` holds attendFloats(width).
void attend(bool mixed, const QueryBlock& queries, const PackedHead& head, float* memory);

}  // namespace moe::MOE_KERNELS
