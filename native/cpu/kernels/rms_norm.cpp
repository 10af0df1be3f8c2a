// rmsNormForward, rmsNormBackward (RMSNorm, arXiv 1910.07467).
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t tokenBlock = 32;  // tokens whose dWeight terms are summed before the blocks are

// Σ dY·weight·x in double, dY·weight rounded to float.
double preciseDot(const float* dY, const float* weight, const float* x, int64_t n) {
  constexpr int64_t ways = 16;
  double sum[ways] = {};
  int64_t i = 0;
  for (; i + ways <= n; i += ways) {
    for (int64_t j = 0; j < ways; j++) sum[j] += static_cast<double>(dY[i + j] * weight[i + j]) * static_cast<double>(x[i + j]);
  }
  for (; i < n; i++) sum[0] += static_cast<double>(dY[i] * weight[i]) * static_cast<double>(x[i]);
  for (int64_t width = ways / 2; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; j++) sum[j] += sum[j + width];
  }
  return sum[0];
}

template <class Out>
void normaliseRow(Out* out, const float* row, const float* weight, float r, int64_t width) {
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) store(out + i, load(weight + i) * (load(row + i) * splat(r)));
  for (; i < width; i++) storeOne(out + i, weight[i] * (row[i] * r));
}

// out = add? + r·(dY·weight − x·along).
template <class Out>
void gradientRow(Out* out, const float* add, const float* dY, const float* weight, const float* x, float r, float along, int64_t width) {
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    const Vec gradient = splat(r) * (load(dY + i) * load(weight + i) - load(x + i) * splat(along));
    store(out + i, add ? load(add + i) + gradient : gradient);
  }
  for (; i < width; i++) {
    const float gradient = r * (dY[i] * weight[i] - x[i] * along);
    storeOne(out + i, add ? add[i] + gradient : gradient);
  }
}

}  // namespace

// y (T D), rstd (T) from x (T D), weight (D); attribute eps.
void rmsNormForward(const Args& args, Pool& pool) {
  float* rstd = f32(args, 1);
  const float *x = f32(args, 2), *weight = f32(args, 3);
  const int64_t tokens = dim(args, 2, 0), width = dim(args, 2, 1);
  const double eps = args.attrs[0];
  withElements(args, 0, [&](auto* y) {
    parallelRanges(pool, tokens, 2 * width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; t++) {
        const float* row = x + t * width;
        rstd[t] = static_cast<float>(1 / sqrt(preciseDot(row, row, width) / static_cast<double>(width) + eps));
        normaliseRow(y + t * width, row, weight, rstd[t], width);
      }
    });
  });
}

Need rmsNormBackwardNeed(const Args& args) { return {divideUp(dim(args, 0, 0), tokenBlock) * dim(args, 0, 1), 0}; }

// dX (T D), dWeight (D) from dY, x (T D), weight (D), rstd (T), add? (T D).
// dWeight is summed over fixed blocks of tokens into workspace rows, then over the blocks.
void rmsNormBackward(const Args& args, Pool& pool) {
  float* dWeight = f32(args, 1);
  const float *dY = f32(args, 2), *x = f32(args, 3), *weight = f32(args, 4), *rstd = f32(args, 5), *add = f32(args, 6);
  const int64_t tokens = dim(args, 0, 0), width = dim(args, 0, 1), blocks = divideUp(tokens, tokenBlock);
  float* partial = args.work.shared;
  withElements(args, 0, [&](auto* dX) {
    parallel(pool, blocks, [&](int64_t block, int) {
      float* MOE_RESTRICT sums = partial + block * width;
      memset(sums, 0, width * sizeof(float));
      for (int64_t t = block * tokenBlock; t < least(tokens, (block + 1) * tokenBlock); t++) {
        const float *MOE_RESTRICT dYRow = dY + t * width, *MOE_RESTRICT xRow = x + t * width;
        const float r = rstd[t];
        for (int64_t i = 0; i < width; i++) sums[i] += dYRow[i] * (xRow[i] * r);
        const float along = r * r * static_cast<float>(preciseDot(dYRow, weight, xRow, width) / static_cast<double>(width));
        gradientRow(dX + t * width, add ? add + t * width : nullptr, dYRow, weight, xRow, r, along, width);
      }
    });
  });
  parallelRanges(pool, width, blocks, [&](int64_t begin, int64_t end) {
    for (int64_t block = 0; block < blocks; block++) {
      for (int64_t i = begin; i < end; i++) dWeight[i] += partial[block * width + i];
    }
  });
}

}  // namespace moe::MOE_KERNELS
