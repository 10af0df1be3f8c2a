// What every kernel file needs: access to its arguments, the parallel loop, and the reductions along a row.
// A kernel may split its work over tiles only where each tile owns its outputs, and by sizes that do not depend on the
// number of threads; every sum then has one order, and the bits are the same whatever the thread count.
#pragma once

#include "../args.h"
#include "../pool.h"
#include "../bf16.h"

namespace moe::MOE_KERNELS {

inline float* f32(const Args& args, int i) { return static_cast<float*>(args.tensors[i].data); }
inline int32_t* i32(const Args& args, int i) { return static_cast<int32_t*>(args.tensors[i].data); }
inline int64_t dim(const Args& args, int i, int axis) { return args.tensors[i].shape[axis]; }

inline bool isHalf(const Args& args, int i) { return args.tensors[i].half; }

// Element `index` of tensor i, floats or bf16.
inline void* elementOf(const Args& args, int i, int64_t index) {
  if (isHalf(args, i)) return static_cast<Half*>(args.tensors[i].data) + index;
  return f32(args, i) + index;
}

// body(elements of tensor i as what they are: float* or Half*).
template <class Body>
void withElements(const Args& args, int i, const Body& body) {
#if MOE_BF16
  if (isHalf(args, i)) return body(static_cast<Half*>(args.tensors[i].data));
#endif
  body(f32(args, i));
}

inline int64_t elements(const Args& args, int i) {
  int64_t count = 1;
  for (int axis = 0; axis < args.tensors[i].rank; axis++) count *= dim(args, i, axis);
  return count;
}

// Whether the op's gradient is zero whatever its memory holds; the op then overwrites it.
inline bool takeZero(const Args& args) {
  const bool isZero = args.gradient && args.gradient->isZero;
  if (isZero) args.gradient->isZero = false;
  return isZero;
}

// Where a product that leaves the op's gradient may put the squares of its parts, or null. The parts that it leaves alone keep theirs: they must have some.
inline float* takeSquares(const Args& args) {
  if (!args.mixed || !args.gradient || !args.gradient->squares) return nullptr;
  if (args.gradient->isZero) args.gradient->hasSquares = true;
  return args.gradient->hasSquares ? args.gradient->squares : nullptr;
}

inline float* threadMemory(const Args& args, int thread) { return args.work.perThread + thread * args.work.perThreadFloats; }

inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t roundUp(int64_t a, int64_t b) { return divideUp(a, b) * b; }

// body(tile, thread) for every tile.
template <class Body>
void parallel(Pool& pool, int64_t tiles, const Body& body) {
  pool.run(
      tiles, [](const void* context, int64_t tile, int thread) { (*static_cast<const Body*>(context))(tile, thread); }, &body);
}

// body(begin, end) over ranges of `count` items, each range of about `grain / itemCost` items. Ranges depend on these numbers only.
template <class Body>
void parallelRanges(Pool& pool, int64_t count, int64_t itemCost, const Body& body) {
  constexpr int64_t grain = 1 << 15;
  const int64_t size = most(1, grain / most(1, itemCost));
  parallel(pool, divideUp(count, size), [&](int64_t tile, int) { body(tile * size, least(count, (tile + 1) * size)); });
}

// Σ a·b of floats or bf16.
template <class A, class B>
inline float dot(const A* a, const B* b, int64_t n) {
  Vec sum[4] = {splat(0), splat(0), splat(0), splat(0)};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    MOE_UNROLL
    for (int j = 0; j < 4; j++) sum[j] = sum[j] + load(a + i + j * lanes) * load(b + i + j * lanes);
  }
  for (; i + lanes <= n; i += lanes) sum[0] = sum[0] + load(a + i) * load(b + i);
  float total = sumOfLanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
  for (; i < n; i++) total += toFloat(a[i]) * toFloat(b[i]);
  return total;
}

// Σ a·b in double, for the few sums that everything after them inherits.
inline double preciseDot(const float* a, const float* b, int64_t n) {
  constexpr int64_t ways = 16;
  double sum[ways] = {};
  int64_t i = 0;
  for (; i + ways <= n; i += ways) {
    for (int64_t j = 0; j < ways; j++) sum[j] += static_cast<double>(a[i + j]) * static_cast<double>(b[i + j]);
  }
  for (; i < n; i++) sum[0] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (int64_t width = ways / 2; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; j++) sum[j] += sum[j + width];
  }
  return sum[0];
}

// Σ x in double, in a fixed order.
inline double preciseSum(const float* x, int64_t n) {
  constexpr int64_t ways = 16;
  double sum[ways] = {};
  int64_t i = 0;
  for (; i + ways <= n; i += ways) {
    for (int64_t j = 0; j < ways; j++) sum[j] += static_cast<double>(x[i + j]);
  }
  for (; i < n; i++) sum[0] += static_cast<double>(x[i]);
  for (int64_t width = ways / 2; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; j++) sum[j] += sum[j + width];
  }
  return sum[0];
}

inline float largest(const float* x, int64_t n) {
  Vec best = splat(-INFINITY);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) best = larger(load(x + i), best);
  if (i < n) best = larger(loadPart(x + i, n - i, -INFINITY), best);
  return largestLane(best);
}

// out = exp(x·scale − shift), and their sum (before out rounds them). x and out may be the same row.
template <class Out>
inline float exponentials(Out* out, const float* x, int64_t n, float scale, float shift) {
  Vec sum = splat(0);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Vec e = exponential(load(x + i) * splat(scale) - splat(shift));
    store(out + i, e);
    sum = sum + e;
  }
  if (i < n) {
    const Vec e = exponential(loadPart(x + i, n - i, -INFINITY) * splat(scale) - splat(shift));
    storePart(out + i, e, n - i);
    sum = sum + e;
  }
  return sumOfLanes(sum);
}

}  // namespace moe::MOE_KERNELS
