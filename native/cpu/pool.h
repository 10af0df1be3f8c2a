// Threads that share out the tiles of one job at a time. The caller of run() works too; the others spin about 20 µs
// for the next job and then sleep. Tiles are handed out one by one from an atomic counter, so a thread that loses its
// core delays only the tile it holds. Threads are never pinned: that would tie every library of the process to a core.
// Which thread computes a tile is left open: a job must give the same bits whoever computes what, so tiles own outputs.
#pragma once

#include <stdint.h>

namespace moe {

class Pool {
 public:
  // A tile of a job; `thread` is in [0, threads()) and unique among the threads that run at the same time.
  typedef void (*Task)(const void* context, int64_t tile, int thread);

  // `threads` counts the caller of run().
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const;

  // Runs task(context, 0 .. tiles-1, thread) and returns when all are done. Not reentrant; one caller at a time.
  void run(int64_t tiles, Task task, const void* context);

  // Counts for tiles that build on others of the same job: a tile may wait only for tiles of lower numbers, which somebody
  // has claimed. Cleared before the job; `which` is below maxCounts.
  static constexpr int maxCounts = 64;
  void clearCounts(int count);
  void count(int which);
  void awaitCount(int which, int64_t target);

  // A kernel met an index outside [0, limit): what[index] is `found`. The first report wins; the run will reject.
  void fail(const char* what, int64_t index, int64_t found, int64_t limit);

  struct Failure {
    const char* what;
    int64_t index, found, limit;
  };
  // The failure reported since the last call, if any (what is null otherwise).
  Failure takeFailure();

 private:
  struct State;
  State* state_;
};

}  // namespace moe
