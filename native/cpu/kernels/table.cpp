// The kernel table of one instruction set: {name, tensors, of these optional, attributes, kernel, workspace, which may be bf16, packed weight, gradient, its squares}.
// Counts repeat the rows of core/backend/backend.ts; tests/native/addon.test.ts compares the two. headCrossEntropy
// is none of them: core/backend/fuse.ts makes it of a forward and its backward.
#include "table.h"

#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr uint32_t bit(int i) { return 1u << i; }

const Op ops[] = {
    {"embedForward", 3, 0, 0, embedForward, nullptr, 0, nullptr},
    {"embedBackward", 3, 0, 0, embedBackward, nullptr, 0, nullptr},
    {"rmsNormForward", 4, 0, 1, rmsNormForward, nullptr, bit(0), nullptr},
    {"rmsNormBackward", 7, 1, 0, rmsNormBackward, rmsNormBackwardNeed, bit(0), nullptr},
    {"layerNormForward", 3, 0, 1, layerNormForward, nullptr, bit(0), nullptr},
    {"layerNormBackward", 5, 1, 0, layerNormBackward, nullptr, bit(0), nullptr},
    {"linearForward", 4, 1, 0, linearForward, linearForwardNeed, bit(0) | bit(1), linearForwardPacked},
    {"linearBackwardInput", 4, 1, 0, linearBackwardInput, linearBackwardInputNeed, bit(0) | bit(1), linearBackwardInputPacked},
    {"linearBackwardWeight", 3, 0, 0, linearBackwardWeight, linearBackwardWeightNeed, bit(1) | bit(2), nullptr, 0, linearBackwardWeightSquares},
    {"ropeForward", 3, 0, 2, ropeForward, nullptr, bit(0), nullptr},
    {"ropeBackward", 3, 0, 2, ropeBackward, nullptr, 0, nullptr},
    {"attentionForward", 5, 0, 3, attentionForward, attentionForwardNeed, bit(0) | bit(2) | bit(3) | bit(4), nullptr},
    {"attentionBackward", 9, 0, 3, attentionBackward, attentionBackwardNeed, bit(2) | bit(3) | bit(4) | bit(5) | bit(6) | bit(7), nullptr},
    {"kvAppendForward", 5, 0, 0, kvAppendForward, nullptr, 0, nullptr},
    {"attentionCachedForward", 5, 0, 2, attentionCachedForward, attentionCachedForwardNeed, 0, nullptr},
    {"attentionSequencesForward", 5, 0, 3, attentionSequencesForward, attentionSequencesForwardNeed, 0, nullptr},
    {"routerSoftmaxForward", 3, 0, 0, routerSoftmaxForward, nullptr, 0, nullptr},
    {"routerTopKForward", 2, 0, 0, routerTopKForward, nullptr, 0, nullptr},
    {"routerGateForward", 3, 0, 1, routerGateForward, nullptr, 0, nullptr},
    {"routerLossForward", 4, 0, 2, routerLossForward, routerLossForwardNeed, 0, nullptr},
    {"routerBackward", 7, 0, 3, routerBackward, nullptr, 0, nullptr},
    {"addCountsForward", 3, 1, 0, addCountsForward, nullptr, 0, nullptr},
    {"expertChoiceForward", 6, 0, 2, expertChoiceForward, expertChoiceForwardNeed, 0, nullptr},
    {"expertChoiceBackward", 5, 0, 1, expertChoiceBackward, nullptr, 0, nullptr},
    {"moeDispatchForward", 6, 0, 0, moeDispatchForward, nullptr, 0, nullptr},
    {"groupedLinearForward", 5, 1, 0, groupedLinearForward, groupedLinearForwardNeed, bit(0) | bit(1), groupedLinearForwardPacked},
    {"groupedLinearBackwardInput", 5, 1, 0, groupedLinearBackwardInput, groupedLinearBackwardInputNeed, bit(0) | bit(1), groupedLinearBackwardInputPacked},
    {"groupedLinearBackwardWeight", 6, 2, 0, groupedLinearBackwardWeight, groupedLinearBackwardWeightNeed, bit(1) | bit(2), nullptr, 0, groupedLinearBackwardWeightSquares},
    {"swigluForward", 4, 0, 0, swigluForward, nullptr, bit(0) | bit(1), nullptr},
    {"swigluBackward", 6, 0, 0, swigluBackward, nullptr, bit(0) | bit(2) | bit(3), nullptr},
    {"denseSwigluForward", 2, 0, 0, denseSwigluForward, nullptr, bit(0) | bit(1), nullptr},
    {"denseSwigluBackward", 3, 0, 0, denseSwigluBackward, nullptr, bit(0) | bit(1) | bit(2), nullptr},
    {"moeCombineForward", 4, 1, 0, moeCombineForward, nullptr, bit(1), nullptr},
    {"headCrossEntropyForward", 5, 0, 0, headCrossEntropyForward, headCrossEntropyForwardNeed, bit(2), nullptr},
    {"headCrossEntropyBackward", 7, 0, 0, headCrossEntropyBackward, headCrossEntropyBackwardNeed, bit(2), nullptr, 1},
    {"headCrossEntropy", 8, 0, 0, headCrossEntropy, headCrossEntropyNeed, bit(4), nullptr, 3},
    {"embedPackedForward", 3, 0, 0, embedPackedForward, nullptr, 0, nullptr},
    {"linearPackedForward", 4, 1, 0, linearPackedForward, linearPackedForwardNeed, 0, nullptr},
    {"routerForward", 4, 0, 1, routerForward, routerForwardNeed, 0, nullptr},
    {"moePackedForward", 8, 1, 0, moePackedForward, moePackedForwardNeed, 0, nullptr},
    {"weightedSumForward", 3, 0, 0, weightedSumForward, nullptr, 0, nullptr},
    {"gatherRowsForward", 3, 0, 0, gatherRowsForward, nullptr, 0, nullptr},
    {"sumOfSquares", 2, 0, 1, sumOfSquares, sumOfSquaresNeed, 0, nullptr, 1},
    {"clipScale", 2, 0, 1, clipScale, nullptr, 0, nullptr},
    {"adamwStep", 6, 0, 4, adamwStep, nullptr, 0, nullptr, 3},
};

}  // namespace

#define MOE_TEXT_OF(name) #name
#define MOE_TEXT(macro) MOE_TEXT_OF(macro)

const KernelSet kernelSet = {MOE_TEXT(MOE_KERNELS), MOE_BF16 == 1, ops, sizeof ops / sizeof ops[0], multiplyAdd, readThrough};

}  // namespace moe::MOE_KERNELS
