// swigluForward, swigluBackward: a = gate·silu(h[:F])·h[F:], the gate of the slot included (arXiv 2512.14080).
// denseSwigluForward, denseSwigluBackward: the same with no gate.
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

// One vector of a row: a = gate·silu(x)·u.
Vec forward(Vec x, Vec u, Vec gate) { return gate * u * x * reciprocal(splat(1) + exponential(splat(0) - x)); }

struct Backward {
  Vec dX, dU, ungated;
};

// Gradients with respect to x and u under dA, and dA·silu(x)·u, whose sum is the gate's gradient.
Backward backward(Vec dA, Vec x, Vec u, Vec gate) {
  const Vec sigmoid = reciprocal(splat(1) + exponential(splat(0) - x));
  const Vec silu = x * sigmoid;
  const Vec slope = sigmoid + silu - silu * sigmoid;
  return {dA * gate * u * slope, dA * gate * silu, dA * silu * u};
}

template <class A, class H>
void forwardRow(A* a, const H* x, Vec gate, int64_t width) {
  const H* u = x + width;
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) store(a + i, forward(load(x + i), load(u + i), gate));
  const int64_t rest = width - i;
  if (rest > 0) storePart(a + i, forward(loadPart(x + i, rest, 0), loadPart(u + i, rest, 0), gate), rest);
}

// Returns the gate's gradient.
template <class D, class A, class H>
float backwardRow(D* dX, const A* dA, const H* x, Vec gate, int64_t width) {
  D* dU = dX + width;
  const H* u = x + width;
  Vec dGate = splat(0);
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    const Backward b = backward(load(dA + i), load(x + i), load(u + i), gate);
    store(dX + i, b.dX);
    store(dU + i, b.dU);
    dGate = dGate + b.ungated;
  }
  if (i < width) {
    const int64_t rest = width - i;
    const Backward b = backward(loadPart(dA + i, rest, 0), loadPart(x + i, rest, 0), loadPart(u + i, rest, 0), gate);
    storePart(dX + i, b.dX, rest);
    storePart(dU + i, b.dU, rest);
    dGate = dGate + b.ungated;
  }
  return sumOfLanes(dGate);
}

}  // namespace

// a (S F) from h (S 2F), gate (T K) read at slotIndex (S).
void swigluForward(const Args& args, Pool& pool) {
  const int32_t* slotIndex = i32(args, 3);
  const float* gates = f32(args, 2);
  const int64_t slots = dim(args, 0, 0), width = dim(args, 0, 1);
  withElements(args, 0, [&](auto* a) {
    withElements(args, 1, [&](const auto* h) {
      parallelRanges(pool, slots, 8 * width, [&](int64_t begin, int64_t end) {
        for (int64_t s = begin; s < end; s++) forwardRow(a + s * width, h + s * 2 * width, splat(gates[slotIndex[s]]), width);
      });
    });
  });
}

// dH (S 2F), dGate (T K) from dA (S F), h (S 2F), gate (T K), slotIndex (S): slotIndex names each gate at most once, so
// each has one slot that owns it.
void swigluBackward(const Args& args, Pool& pool) {
  const int32_t* slotIndex = i32(args, 5);
  const float* gates = f32(args, 4);
  float* dGates = f32(args, 1);
  const int64_t slots = dim(args, 2, 0), width = dim(args, 2, 1);
  withElements(args, 0, [&](auto* dH) {
    withElements(args, 2, [&](const auto* dA) {
      withElements(args, 3, [&](const auto* h) {
        parallelRanges(pool, slots, 16 * width, [&](int64_t begin, int64_t end) {
          for (int64_t s = begin; s < end; s++) {
            dGates[slotIndex[s]] = backwardRow(dH + s * 2 * width, dA + s * width, h + s * 2 * width, splat(gates[slotIndex[s]]), width);
          }
        });
      });
    });
  });
}

// a (T F) from h (T 2F).
void denseSwigluForward(const Args& args, Pool& pool) {
  const int64_t tokens = dim(args, 0, 0), width = dim(args, 0, 1);
  withElements(args, 0, [&](auto* a) {
    withElements(args, 1, [&](const auto* h) {
      parallelRanges(pool, tokens, 8 * width, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; t++) forwardRow(a + t * width, h + t * 2 * width, splat(1), width);
      });
    });
  });
}

// dH (T 2F) from dA (T F), h (T 2F).
void denseSwigluBackward(const Args& args, Pool& pool) {
  const int64_t tokens = dim(args, 1, 0), width = dim(args, 1, 1);
  withElements(args, 0, [&](auto* dH) {
    withElements(args, 1, [&](const auto* dA) {
      withElements(args, 2, [&](const auto* h) {
        parallelRanges(pool, tokens, 16 * width, [&](int64_t begin, int64_t end) {
          for (int64_t t = begin; t < end; t++) backwardRow(dH + t * 2 * width, dA + t * width, h + t * 2 * width, splat(1), width);
        });
      });
    });
  });
}

}  // namespace moe::MOE_KERNELS
