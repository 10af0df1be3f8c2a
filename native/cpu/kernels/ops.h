// The ops of this instruction set, by their one name; core/backend/backend.ts holds shapes and formulas.
#pragma once

#include "kernel.h"

namespace moe::MOE_KERNELS {

void embedForward(const Args&, Pool&);
void embedBackward(const Args&, Pool&);
void gatherRowsForward(const Args&, Pool&);
void rmsNormForward(const Args&, Pool&);
void rmsNormBackward(const Args&, Pool&);
void layerNormForward(const Args&, Pool&);
void layerNormBackward(const Args&, Pool&);
void linearForward(const Args&, Pool&);
void linearBackwardInput(const Args&, Pool&);
void linearBackwardWeight(const Args&, Pool&);
void ropeForward(const Args&, Pool&);
void ropeBackward(const Args&, Pool&);
void attentionForward(const Args&, Pool&);
void attentionBackward(const Args&, Pool&);
void kvAppendForward(const Args&, Pool&);
void attentionCachedForward(const Args&, Pool&);
void attentionSequencesForward(const Args&, Pool&);
void routerSoftmaxForward(const Args&, Pool&);
void routerTopKForward(const Args&, Pool&);
void routerGateForward(const Args&, Pool&);
void routerLossForward(const Args&, Pool&);
void routerBackward(const Args&, Pool&);
void addCountsForward(const Args&, Pool&);
void expertChoiceForward(const Args&, Pool&);
void expertChoiceBackward(const Args&, Pool&);
void moeDispatchForward(const Args&, Pool&);
void moeCombineForward(const Args&, Pool&);
void groupedLinearForward(const Args&, Pool&);
void groupedLinearBackwardInput(const Args&, Pool&);
void groupedLinearBackwardWeight(const Args&, Pool&);
void swigluForward(const Args&, Pool&);
void swigluBackward(const Args&, Pool&);
void denseSwigluForward(const Args&, Pool&);
void denseSwigluBackward(const Args&, Pool&);
void headCrossEntropyForward(const Args&, Pool&);
void headCrossEntropyBackward(const Args&, Pool&);
void headCrossEntropy(const Args&, Pool&);
void embedPackedForward(const Args&, Pool&);
void linearPackedForward(const Args&, Pool&);
void moePackedForward(const Args&, Pool&);
void routerForward(const Args&, Pool&);
void weightedSumForward(const Args&, Pool&);
void sumOfSquares(const Args&, Pool&);
void clipScale(const Args&, Pool&);
void adamwStep(const Args&, Pool&);

// Workspace of the ops that need one.
Need rmsNormBackwardNeed(const Args&);
Need linearForwardNeed(const Args&);
Need linearBackwardInputNeed(const Args&);
Need linearBackwardWeightNeed(const Args&);
Need attentionForwardNeed(const Args&);
Need attentionBackwardNeed(const Args&);
Need attentionCachedForwardNeed(const Args&);
Need attentionSequencesForwardNeed(const Args&);
Need routerLossForwardNeed(const Args&);
Need expertChoiceForwardNeed(const Args&);
Need groupedLinearForwardNeed(const Args&);
Need groupedLinearBackwardInputNeed(const Args&);
Need groupedLinearBackwardWeightNeed(const Args&);
Need headCrossEntropyForwardNeed(const Args&);
Need headCrossEntropyBackwardNeed(const Args&);
Need headCrossEntropyNeed(const Args&);
Need linearPackedForwardNeed(const Args&);
Need moePackedForwardNeed(const Args&);
Need routerForwardNeed(const Args&);
Need sumOfSquaresNeed(const Args&);

// Floats of the weight, packed whole, of the ops that can keep it.
int64_t linearForwardPacked(const Args&);
int64_t linearBackwardInputPacked(const Args&);
int64_t groupedLinearForwardPacked(const Args&);
int64_t groupedLinearBackwardInputPacked(const Args&);

// Sums of squares that a mixed op leaves of its gradient.
int64_t linearBackwardWeightSquares(const Args&);
int64_t groupedLinearBackwardWeightSquares(const Args&);

// FLOPs of multiply-adds that fill every thread's vector units for a few milliseconds; mixed: of bf16 pairs.
double multiplyAdd(Pool&, bool mixed);
// Sum of `floats` numbers, a multiple of 2^18, read by all threads.
double readThrough(const float* data, int64_t floats, Pool&);

}  // namespace moe::MOE_KERNELS
