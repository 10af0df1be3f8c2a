// Row look-ups: embedForward, embedBackward, gatherRowsForward.
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

// to[t] = table[rows[t]]; a row that is not there is reported and left zero.
void gatherRows(const Args& args, Pool& pool, const float* table, const int32_t* rows, int64_t limit, const char* what) {
  float* to = f32(args, 0);
  const int64_t count = dim(args, 0, 0), width = dim(args, 0, 1);
  parallelRanges(pool, count, width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      const bool known = rows[t] >= 0 && rows[t] < limit;
      if (known) {
        memcpy(to + t * width, table + rows[t] * width, width * sizeof(float));
      } else {
        memset(to + t * width, 0, width * sizeof(float));
        pool.fail(what, t, rows[t], limit);
      }
    }
  });
}

}  // namespace

// x (T D) = weight (V D) at ids (T).
void embedForward(const Args& args, Pool& pool) { gatherRows(args, pool, f32(args, 2), i32(args, 1), dim(args, 2, 0), "ids"); }

// y (R D) = x (T D) at rows (R).
void gatherRowsForward(const Args& args, Pool& pool) { gatherRows(args, pool, f32(args, 1), i32(args, 2), dim(args, 1, 0), "rows"); }

// dWeight (V D) += dX (T D) at ids (T), in token order: each tile owns some columns and walks all tokens.
void embedBackward(const Args& args, Pool& pool) {
  float* dWeight = f32(args, 0);
  const int32_t* ids = i32(args, 1);
  const float* dX = f32(args, 2);
  const int64_t vocabulary = dim(args, 0, 0), tokens = dim(args, 2, 0), width = dim(args, 2, 1);
  constexpr int64_t slice = 64;
  parallel(pool, divideUp(width, slice), [&](int64_t tile, int) {
    const int64_t begin = tile * slice, end = least(width, begin + slice);
    for (int64_t t = 0; t < tokens; t++) {
      if (ids[t] < 0 || ids[t] >= vocabulary) {
        pool.fail("ids", t, ids[t], vocabulary);
        continue;
      }
      float* MOE_RESTRICT to = dWeight + ids[t] * width;
      const float* MOE_RESTRICT from = dX + t * width;
      for (int64_t i = begin; i < end; i++) to[i] += from[i];
    }
  });
}

}  // namespace moe::MOE_KERNELS
