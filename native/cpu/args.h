// What the engine hands to a kernel and what a set of kernels is: plain structs, shared by every instruction set.
// Nothing here may be an inline function or a template: the kernel sources are compiled several times with different
// machine flags, and the linker would keep one copy of an inline function for all of them, maybe one that needs AVX-512.
#pragma once

#include <stdint.h>

namespace moe {

class Pool;

constexpr int maxRank = 4;

// How a tensor's numbers lie: 32-bit row-major, or packed (kernels/packed.h).
enum Format : int { plain, bf16, q8, q4 };

// One tensor argument. `data` is null for an optional argument that was left out (and while a plan is measured). `half`:
// its elements are bf16 instead of float32, which a mixed op allows for some of its arguments.
struct Tensor {
  void* data;
  bool half;
  int rank;
  Format format;
  int64_t shape[maxRank];
};

// Memory for the time of one op, uninitialised, 64-byte aligned. Thread t owns perThread + t * perThreadFloats.
struct Workspace {
  float* shared;
  int64_t sharedFloats;
  float* perThread;
  int64_t perThreadFloats;
};

// A weight as a product wants it, kept from one run to the next until the weight changes.
struct Packed {
  float* data;
  bool isCurrent;
};

// What is known of a gradient besides its memory. `squares` (null where no op makes them): sums of the squares of its parts, in
// an order that depends on its shape only.
struct Gradient {
  bool isZero;      // whatever the memory holds
  bool hasSquares;  // of what the memory holds
  float* squares;
  int64_t squareCount;
};

// Tensors in record order (out, inout, in, optional), attributes in the order of the op's row.
struct Args {
  const Tensor* tensors;
  const double* attrs;
  Workspace work;
  bool mixed;          // operands of products are bf16, their sums float32
  Gradient* gradient;  // that the op's row names, or null
  Packed* packed;      // where the op keeps its weight packed, or null
};

// Workspace an op needs, in floats; from shapes and attributes only.
struct Need {
  int64_t sharedFloats;
  int64_t perThreadFloats;
};

// One row of a kernel table. The last `optional` of `tensors` may be null. `need` may be null (no workspace). Bit i of
// `halves`: tensor i may be bf16 when the op is mixed. `packedFloats`: floats of its weight (tensor 2) packed whole, where the op
// can keep it; else null. `gradient`: the tensor that the op overwrites where Args::gradient says it is zero, or leaves zero by saying so; −1
// for none. `squares`: how many sums of squares of its gradient the op makes when it is mixed; null where it makes none.
struct Op {
  const char* name;
  int tensors;
  int optional;
  int attrs;
  void (*run)(const Args&, Pool&);
  Need (*need)(const Args&);
  uint32_t halves;
  int64_t (*packedFloats)(const Args&);
  int gradient = -1;
  int64_t (*squares)(const Args&) = nullptr;
};

// All ops compiled for one instruction set. hasMixed: it multiplies bf16. multiplyAdd keeps every thread's multiply-add units
// busy, in float32 or mixed, and returns the FLOPs done; readThrough has all threads read `floats` floats once and returns their sum.
struct KernelSet {
  const char* isa;
  bool hasMixed;
  const Op* ops;
  int opCount;
  double (*multiplyAdd)(Pool&, bool mixed);
  double (*readThrough)(const float* data, int64_t floats, Pool&);
};

}  // namespace moe
