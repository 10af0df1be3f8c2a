// The pool's one word of truth is `ticket`: generation of the job in the high half, tiles not yet claimed in the low
// half. A claim is a compare-and-swap on the whole word, so a late thread can never take a tile of a job that is over,
// and the job's description may be read after a claim: its generation cannot pass before the claimed tile is done.
#include "pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>
#endif

namespace moe {
namespace {

constexpr auto spinTime = std::chrono::microseconds(20);
constexpr uint64_t tileMask = 0xffffffffu;

void relax() {
#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
  _mm_pause();
#elif defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Spins until `ready()` or spinTime has passed; says whether it became ready.
template <class Ready>
bool spinUntil(Ready ready) {
  const auto end = std::chrono::steady_clock::now() + spinTime;
  do {
    for (int i = 0; i < 64; i++) {
      if (ready()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

}  // namespace

struct Pool::State {
  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<int64_t> done{0};
  struct alignas(64) Count {
    std::atomic<int64_t> value{0};
  };
  Count counts[maxCounts];
  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<bool> stopping{false};
  Task task = nullptr;
  const void* context = nullptr;
  int64_t tiles = 0;
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::thread> threads;
  std::mutex failureMutex;
  Failure failure{nullptr, 0, 0, 0};

  // Claims and runs tiles of the current job until none is left.
  void work(int thread) {
    uint64_t seen = ticket.load(std::memory_order_acquire);
    while ((seen & tileMask) != 0) {
      if (!ticket.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      task(context, tiles - static_cast<int64_t>(seen & tileMask), thread);
      done.fetch_add(1, std::memory_order_release);
      seen = ticket.load(std::memory_order_acquire);
    }
  }

  bool hasWork() const { return (ticket.load(std::memory_order_acquire) & tileMask) != 0 || stopping.load(); }

  void threadMain(int thread) {
    while (!stopping.load()) {
      work(thread);
      if (spinUntil([this] { return hasWork(); })) continue;
      std::unique_lock<std::mutex> lock(mutex);
      sleepers.fetch_add(1);
      wake.wait(lock, [this] { return hasWork(); });
      sleepers.fetch_sub(1);
    }
  }

  void wakeSleepers() {
    if (sleepers.load() == 0) return;
    // The lock orders this after the check of a thread that is about to sleep.
    { std::lock_guard<std::mutex> lock(mutex); }
    wake.notify_all();
  }
};

Pool::Pool(int threads) : state_(new State) {
  for (int thread = 1; thread < threads; thread++) state_->threads.emplace_back([this, thread] { state_->threadMain(thread); });
}

Pool::~Pool() {
  state_->stopping.store(true);
  { std::lock_guard<std::mutex> lock(state_->mutex); }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
  delete state_;
}

int Pool::threads() const { return static_cast<int>(state_->threads.size()) + 1; }

void Pool::run(int64_t tiles, Task task, const void* context) {
  if (tiles <= 1 || state_->threads.empty()) {
    for (int64_t tile = 0; tile < tiles; tile++) task(context, tile, 0);
    return;
  }
  State& state = *state_;
  state.task = task;
  state.context = context;
  state.tiles = tiles;
  state.done.store(0, std::memory_order_relaxed);
  const uint64_t generation = (state.ticket.load(std::memory_order_relaxed) >> 32) + 1;
  state.ticket.store(generation << 32 | static_cast<uint64_t>(tiles));
  state.wakeSleepers();
  state.work(0);
  const auto finished = [&state, tiles] { return state.done.load(std::memory_order_acquire) == tiles; };
  while (!spinUntil(finished)) std::this_thread::yield();
}

void Pool::clearCounts(int count) {
  for (int i = 0; i < count; i++) state_->counts[i].value.store(0, std::memory_order_relaxed);
}

void Pool::count(int which) { state_->counts[which].value.fetch_add(1, std::memory_order_release); }

void Pool::awaitCount(int which, int64_t target) {
  const std::atomic<int64_t>& value = state_->counts[which].value;
  if (value.load(std::memory_order_acquire) >= target) return;
  const auto reached = [&value, target] { return value.load(std::memory_order_acquire) >= target; };
  while (!spinUntil(reached)) std::this_thread::yield();
}

void Pool::fail(const char* what, int64_t index, int64_t found, int64_t limit) {
  std::lock_guard<std::mutex> lock(state_->failureMutex);
  if (state_->failure.what == nullptr) state_->failure = {what, index, found, limit};
}

Pool::Failure Pool::takeFailure() {
  std::lock_guard<std::mutex> lock(state_->failureMutex);
  const Failure failure = state_->failure;
  state_->failure.what = nullptr;
  return failure;
}

}  // namespace moe
