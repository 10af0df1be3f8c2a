// Blockwise attention with an online softmax, on one thread: what attentionForward and attentionCachedForward share.
// Keys and values are packed once per key-value head; the blocks of queries are then independent tiles. The sizes of the
// blocks are those of the register tile, so they differ between instruction sets, never between thread counts.
#pragma once

#include "gemm.h"

namespace moe::MOE_KERNELS {

constexpr int64_t queryBlock = 8 * tileRows;
constexpr int64_t keyBlock = 128 / tileColumns * tileColumns;

// `keys` packed rows of one key-value head: k as columns of q·kᵀ, v as columns of p·v.
struct PackedHead {
  const float *k, *v;
  int64_t keys;
};

// Floats of one packed head.
inline int64_t packedHeadFloats(int64_t keys, int64_t width) { return packedFloats(keys, width) + packedFloats(width, keys); }

// Packs rows 0..keys of k and v (row stride `stride`, `width` wide) to `to`.
PackedHead packHead(float* to, const float* k, const float* v, int64_t stride, int64_t keys, int64_t width);

// Up to queryBlock queries of one head; query i sees the first visible[i] keys (0: its output is 0).
struct QueryBlock {
  const float* q;
  float* o;
  float* lse;  // may be null
  int64_t count, stride, lseStride, width;
  const int64_t* visible;
};

int64_t attendFloats(int64_t width);

// o = softmax(q·kᵀ/√width)·v and its logsumexp; `memory` holds attendFloats(width).
void attend(const QueryBlock& queries, const PackedHead& head, float* memory);

}  // namespace moe::MOE_KERNELS
