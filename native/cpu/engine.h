// Runs plans: threads, one kernel set, the workspace, and the time each op took. Knows nothing of JavaScript.
// Not thread-safe but for `busy`: whoever holds it may prepare, run or measure; nobody else may.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "arena.h"
#include "args.h"
#include "pool.h"

namespace moe {

// Where a tensor argument lives. A null arena is an optional argument that was left out.
struct Binding {
  std::shared_ptr<Arena> arena;
  size_t byteOffset;
  size_t bytes;
};

// A weight packed for one op, kept as long as a plan that uses it; stale once the weight has changed.
struct KeptWeight {
  Binding weight;
  const Op* op;
  bool mixed;
  Arena memory;
  Packed packed;
};

// A recorded pass bound to memory. Pointers are resolved at each run, so arenas may be resized in between.
struct Plan {
  struct Step {
    const Op* op;
    size_t firstTensor;
    size_t firstAttr;
    bool mixed;
    int writes;  // leading tensors that the op changes
    std::shared_ptr<KeptWeight> kept;
    Arena::Note* gradient;  // on the gradient that the op's row names, or null
  };
  std::vector<Step> steps;
  std::vector<Tensor> tensors;
  std::vector<Binding> bindings;
  std::vector<double> attrs;
};

class Engine {
 public:
  // `mixed` falls back to float32 where the kernel set has no bf16.
  Engine(const KernelSet& kernels, int threads, bool mixed);

  // Ends the threads and frees the workspace. Only isClosed() may be asked afterwards.
  void close();
  bool isClosed() const { return !pool_; }

  const KernelSet& kernels() const { return kernels_; }
  int threads() const { return pool_->threads(); }
  bool isMixed() const { return mixed_; }
  // null when there is no such op.
  const Op* findOp(const std::string& name) const;

  // Keeps the packed weight of a step's op between runs, if it can; shared by all plans. Throws std::bad_alloc.
  void keepWeight(const Plan& plan, Plan::Step& step);
  // Keeps with a step what is known of its op's gradient, which the op then need not read, or write, or only in part.
  void noteGradient(const Plan& plan, Plan::Step& step);
  // Bytes of `arena` change: weights packed from them are stale, squares of gradients there are not known, but for those of `except`.
  void changed(Arena* arena, size_t byteOffset, size_t bytes, const Arena::Note* except = nullptr);
  // Bytes of workspace and kept weights.
  size_t bytes() const;

  // Grows the workspace to what `plan` needs.
  void reserve(const Plan& plan);
  // Begins to bring the workspace's pages in, in the background.
  void populate() { workspace_.populate(); }
  // Runs every op in order. Returns what went wrong, or an empty string.
  std::string run(Plan& plan);
  // Multiply-add peak of all threads in FLOP/s: the best of several short bursts.
  double measurePeak();
  // Bytes per second of all threads reading memory far larger than any cache: the median of several passes, because that is
  // what a step of decoding, timed in the same seconds, can be held against.
  double measureBandwidth();
  // Nanoseconds spent in op i of the kernel table since the engine began.
  const std::vector<uint64_t>& nanoseconds() const { return nanoseconds_; }

  // Held from the moment a run or a measurement is asked for until its promise settles.
  std::atomic<bool> busy{false};

 private:
  Args argsOf(const Plan& plan, const Plan::Step& step) const;

  const KernelSet& kernels_;
  const bool mixed_;
  std::unique_ptr<Pool> pool_;
  Arena workspace_{size_t{0}};
  Need need_{0, 0};
  std::vector<uint64_t> nanoseconds_;
  std::vector<std::weak_ptr<KeptWeight>> kept_;
};

}  // namespace moe
