// layerNormForward, layerNormBackward: LayerNorm without weights (arXiv 1607.06450). Sums along a row are in double.
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

double meanOf(const float* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += static_cast<double>(x[i]);
  return sum / static_cast<double>(n);
}

}  // namespace

// y (T D), rstd (T) from x (T D); attribute eps.
void layerNormForward(const Args& args, Pool& pool) {
  float* rstd = f32(args, 1);
  const float* x = f32(args, 2);
  const int64_t tokens = dim(args, 2, 0), width = dim(args, 2, 1);
  const double eps = args.attrs[0];
  withElements(args, 0, [&](auto* y) {
    parallelRanges(pool, tokens, 4 * width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; t++) {
        const float* row = x + t * width;
        const double mean = meanOf(row, width);
        double square = 0;
        for (int64_t i = 0; i < width; i++) square += (static_cast<double>(row[i]) - mean) * (static_cast<double>(row[i]) - mean);
        rstd[t] = static_cast<float>(1 / sqrt(square / static_cast<double>(width) + eps));
        const float middle = static_cast<float>(mean);
        for (int64_t i = 0; i < width; i++) storeOne(y + t * width + i, (row[i] - middle) * rstd[t]);
      }
    });
  });
}

// dX (T D) from dY, x (T D), rstd (T), add? (T D).
void layerNormBackward(const Args& args, Pool& pool) {
  const float *dY = f32(args, 1), *x = f32(args, 2), *rstd = f32(args, 3), *add = f32(args, 4);
  const int64_t tokens = dim(args, 0, 0), width = dim(args, 0, 1);
  withElements(args, 0, [&](auto* dX) {
    parallelRanges(pool, tokens, 6 * width, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; t++) {
        const float *row = x + t * width, *dRow = dY + t * width;
        const double mean = meanOf(row, width);
        double sum = 0;
        for (int64_t i = 0; i < width; i++) sum += static_cast<double>(dRow[i]) * (static_cast<double>(row[i]) - mean);
        const float r = rstd[t], middle = static_cast<float>(mean), meanD = static_cast<float>(meanOf(dRow, width));
        const float along = r * r * static_cast<float>(sum / static_cast<double>(width));
        for (int64_t i = 0; i < width; i++) {
          const float gradient = r * (dRow[i] - meanD - (row[i] - middle) * along);
          storeOne(dX + t * width + i, add ? add[t * width + i] + gradient : gradient);
        }
      }
    });
  });
}

}  // namespace moe::MOE_KERNELS
