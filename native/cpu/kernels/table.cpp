// The kernel table of one instruction set: {name, tensors, of these optional, attributes, kernel, workspace}.
// Counts repeat the rows of core/backend/backend.ts; tests/native/addon.test.ts compares the two.
#include "table.h"

#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

const Op ops[] = {
    {"embedForward", 3, 0, 0, embedForward, nullptr},
    {"embedBackward", 3, 0, 0, embedBackward, nullptr},
    {"rmsNormForward", 4, 0, 1, rmsNormForward, nullptr},
    {"rmsNormBackward", 7, 1, 0, rmsNormBackward, rmsNormBackwardNeed},
    {"linearForward", 4, 1, 0, linearForward, linearForwardNeed},
    {"linearBackwardInput", 4, 1, 0, linearBackwardInput, linearBackwardInputNeed},
    {"linearBackwardWeight", 3, 0, 0, linearBackwardWeight, linearBackwardWeightNeed},
    {"ropeForward", 3, 0, 2, ropeForward, nullptr},
    {"ropeBackward", 3, 0, 2, ropeBackward, nullptr},
    {"attentionForward", 5, 0, 3, attentionForward, attentionForwardNeed},
    {"attentionBackward", 9, 0, 3, attentionBackward, attentionBackwardNeed},
    {"kvAppendForward", 5, 0, 0, kvAppendForward, nullptr},
    {"attentionCachedForward", 5, 0, 2, attentionCachedForward, attentionCachedForwardNeed},
    {"attentionSequencesForward", 5, 0, 3, attentionSequencesForward, attentionSequencesForwardNeed},
    {"routerSoftmaxForward", 3, 0, 0, routerSoftmaxForward, nullptr},
    {"routerTopKForward", 2, 0, 0, routerTopKForward, nullptr},
    {"routerGateForward", 3, 0, 1, routerGateForward, nullptr},
    {"routerLossForward", 4, 0, 2, routerLossForward, routerLossForwardNeed},
    {"routerBackward", 7, 0, 3, routerBackward, nullptr},
    {"moeDispatchForward", 6, 0, 0, moeDispatchForward, nullptr},
    {"groupedLinearForward", 5, 1, 0, groupedLinearForward, groupedLinearForwardNeed},
    {"groupedLinearBackwardInput", 5, 1, 0, groupedLinearBackwardInput, groupedLinearBackwardInputNeed},
    {"groupedLinearBackwardWeight", 6, 2, 0, groupedLinearBackwardWeight, groupedLinearBackwardWeightNeed},
    {"swigluForward", 4, 0, 0, swigluForward, nullptr},
    {"swigluBackward", 6, 0, 0, swigluBackward, nullptr},
    {"moeCombineForward", 4, 1, 0, moeCombineForward, nullptr},
    {"headCrossEntropyForward", 5, 0, 0, headCrossEntropyForward, headCrossEntropyForwardNeed},
    {"headCrossEntropyBackward", 7, 0, 0, headCrossEntropyBackward, headCrossEntropyBackwardNeed},
    {"embedPackedForward", 3, 0, 0, embedPackedForward, nullptr},
    {"linearPackedForward", 4, 1, 0, linearPackedForward, linearPackedForwardNeed},
    {"moePackedForward", 8, 1, 0, moePackedForward, moePackedForwardNeed},
    {"weightedSumForward", 3, 0, 0, weightedSumForward, nullptr},
    {"gatherRowsForward", 3, 0, 0, gatherRowsForward, nullptr},
    {"sumOfSquares", 2, 0, 1, sumOfSquares, sumOfSquaresNeed},
    {"clipScale", 2, 0, 1, clipScale, nullptr},
    {"adamwStep", 6, 0, 4, adamwStep, nullptr},
};

}  // namespace

#define MOE_TEXT_OF(name) #name
#define MOE_TEXT(macro) MOE_TEXT_OF(macro)

const KernelSet kernelSet = {MOE_TEXT(MOE_KERNELS), ops, sizeof ops / sizeof ops[0], multiplyAdd, readThrough};

}  // namespace moe::MOE_KERNELS
