// rmsNormForward, rmsNormBackward (RMSNorm, arXiv 1910.07467).
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t tokenBlock = 32;  // tokens whose dWeight terms are summed before the blocks are

}  // namespace

// y (T D), rstd (T) from x (T D), weight (D); attribute eps.
void rmsNormForward(const Args& args, Pool& pool) {
  float *y = f32(args, 0), *rstd = f32(args, 1);
  const float *x = f32(args, 2), *weight = f32(args, 3);
  const int64_t tokens = dim(args, 2, 0), width = dim(args, 2, 1);
  const double eps = args.attrs[0];
  parallelRanges(pool, tokens, 2 * width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      const float* MOE_RESTRICT row = x + t * width;
      float* MOE_RESTRICT out = y + t * width;
      const float r = static_cast<float>(1 / sqrt(preciseDot(row, row, width) / static_cast<double>(width) + eps));
      rstd[t] = r;
      for (int64_t i = 0; i < width; i++) out[i] = weight[i] * (row[i] * r);
    }
  });
}

Need rmsNormBackwardNeed(const Args& args) { return {divideUp(dim(args, 0, 0), tokenBlock) * dim(args, 0, 1), 0}; }

// dX (T D), dWeight (D) from dY, x (T D), weight (D), rstd (T), add? (T D).
// dWeight is summed over fixed blocks of tokens into workspace rows, then over the blocks.
void rmsNormBackward(const Args& args, Pool& pool) {
  float *dX = f32(args, 0), *dWeight = f32(args, 1);
  const float *dY = f32(args, 2), *x = f32(args, 3), *weight = f32(args, 4), *rstd = f32(args, 5), *add = f32(args, 6);
  const int64_t tokens = dim(args, 0, 0), width = dim(args, 0, 1), blocks = divideUp(tokens, tokenBlock);
  float* partial = args.work.shared;
  parallel(pool, blocks, [&](int64_t block, int) {
    float* MOE_RESTRICT sums = partial + block * width;
    memset(sums, 0, width * sizeof(float));
    for (int64_t t = block * tokenBlock; t < least(tokens, (block + 1) * tokenBlock); t++) {
      const float *MOE_RESTRICT dYRow = dY + t * width, *MOE_RESTRICT xRow = x + t * width;
      float* MOE_RESTRICT out = dX + t * width;
      const float r = rstd[t];
      for (int64_t i = 0; i < width; i++) {
        out[i] = dYRow[i] * weight[i];
        sums[i] += dYRow[i] * (xRow[i] * r);
      }
      const float along = r * r * static_cast<float>(preciseDot(out, xRow, width) / static_cast<double>(width));
      if (add) {
        const float* MOE_RESTRICT addRow = add + t * width;
        for (int64_t i = 0; i < width; i++) out[i] = addRow[i] + r * (out[i] - xRow[i] * along);
      } else {
        for (int64_t i = 0; i < width; i++) out[i] = r * (out[i] - xRow[i] * along);
      }
    }
  });
  parallelRanges(pool, width, blocks, [&](int64_t begin, int64_t end) {
    for (int64_t block = 0; block < blocks; block++) {
      for (int64_t i = begin; i < end; i++) dWeight[i] += partial[block * width + i];
    }
  });
}

}  // namespace moe::MOE_KERNELS
