#include "engine.h"

#include <algorithm>
#include <chrono>

namespace moe {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t lineFloats = 16;

int64_t roundToLine(int64_t floats) { return (floats + lineFloats - 1) / lineFloats * lineFloats; }

// Resolves the plan's pointers; false when memory it names is gone.
bool resolve(Plan& plan) {
  for (size_t i = 0; i < plan.tensors.size(); i++) {
    const Binding& binding = plan.bindings[i];
    if (!binding.arena) continue;
    if (binding.arena->data() == nullptr || binding.byteOffset + binding.bytes > binding.arena->bytes()) return false;
    plan.tensors[i].data = binding.arena->data() + binding.byteOffset;
  }
  return true;
}

// Ops without a word for zeros find them in memory.
void writeZerosFor(const Plan& plan, const Plan::Step& step) {
  for (int i = 0; i < step.op->tensors; i++) {
    const Binding& binding = plan.bindings[step.firstTensor + static_cast<size_t>(i)];
    if (binding.arena) binding.arena->writeZeros(binding.byteOffset, binding.bytes, i == step.op->gradient ? step.gradient : nullptr);
  }
}

bool overlaps(const Binding& binding, const Arena* arena, size_t byteOffset, size_t bytes) {
  return binding.arena.get() == arena && byteOffset < binding.byteOffset + binding.bytes && binding.byteOffset < byteOffset + bytes;
}

std::string describe(const Op& op, const Pool::Failure& failure) {
  return std::string(op.name) + ": " + failure.what + "[" + std::to_string(failure.index) + "] is " + std::to_string(failure.found) +
         ", expected 0 to " + std::to_string(failure.limit - 1);
}

}  // namespace

Engine::Engine(const KernelSet& kernels, int threads, bool mixed)
    : kernels_(kernels), mixed_(mixed && kernels.hasMixed), pool_(new Pool(threads)), nanoseconds_(kernels.opCount, 0) {}

void Engine::close() {
  pool_.reset();
  workspace_.free();
}

const Op* Engine::findOp(const std::string& name) const {
  const Op* end = kernels_.ops + kernels_.opCount;
  const Op* found = std::find_if(kernels_.ops, end, [&](const Op& op) { return name == op.name; });
  return found == end ? nullptr : found;
}

Args Engine::argsOf(const Plan& plan, const Plan::Step& step) const {
  float* memory = reinterpret_cast<float*>(workspace_.data());
  const Workspace work = {memory, need_.sharedFloats, memory + need_.sharedFloats, need_.perThreadFloats};
  return {plan.tensors.data() + step.firstTensor, plan.attrs.data() + step.firstAttr, work, step.mixed, step.gradient ? &step.gradient->gradient : nullptr, step.kept ? &step.kept->packed : nullptr};
}

void Engine::reserve(const Plan& plan) {
  Need most = need_;
  for (const Plan::Step& step : plan.steps) {
    if (step.op->need == nullptr) continue;
    const Need need = step.op->need(argsOf(plan, step));
    most.sharedFloats = std::max(most.sharedFloats, roundToLine(need.sharedFloats));
    most.perThreadFloats = std::max(most.perThreadFloats, roundToLine(need.perThreadFloats));
  }
  const size_t bytes = sizeof(float) * static_cast<size_t>(most.sharedFloats + threads() * most.perThreadFloats);
  if (bytes > workspace_.bytes()) workspace_.resize(bytes);
  need_ = most;
}

void Engine::keepWeight(const Plan& plan, Plan::Step& step) {
  if (step.op->packedFloats == nullptr) return;
  const Binding& weight = plan.bindings[step.firstTensor + 2];
  kept_.erase(std::remove_if(kept_.begin(), kept_.end(), [](const std::weak_ptr<KeptWeight>& kept) { return kept.expired(); }), kept_.end());
  for (const std::weak_ptr<KeptWeight>& known : kept_) {
    const std::shared_ptr<KeptWeight> kept = known.lock();
    const bool isSame = kept && kept->op == step.op && kept->mixed == step.mixed && kept->weight.arena == weight.arena && kept->weight.byteOffset == weight.byteOffset;
    if (isSame) step.kept = kept;
  }
  if (step.kept) return;
  const size_t bytes = sizeof(float) * static_cast<size_t>(step.op->packedFloats(argsOf(plan, step)));
  step.kept.reset(new KeptWeight{weight, step.op, step.mixed, Arena(bytes), {nullptr, false}});
  step.kept->packed.data = reinterpret_cast<float*>(step.kept->memory.data());
  kept_.push_back(step.kept);
}

void Engine::changed(Arena* arena, size_t byteOffset, size_t bytes, const Arena::Note* except) {
  for (const std::weak_ptr<KeptWeight>& known : kept_) {
    const std::shared_ptr<KeptWeight> kept = known.lock();
    if (kept && overlaps(kept->weight, arena, byteOffset, bytes)) kept->packed.isCurrent = false;
  }
  arena->forgetSquares(byteOffset, bytes, except);
}

void Engine::noteGradient(const Plan& plan, Plan::Step& step) {
  if (step.op->gradient < 0) return;
  const Binding& gradient = plan.bindings[step.firstTensor + static_cast<size_t>(step.op->gradient)];
  step.gradient = gradient.arena->noteOf(gradient.byteOffset, gradient.bytes);
  if (step.op->squares && step.mixed) step.gradient->makeSquares(static_cast<size_t>(step.op->squares(argsOf(plan, step))));
}

size_t Engine::bytes() const {
  size_t sum = workspace_.bytes();
  for (const std::weak_ptr<KeptWeight>& known : kept_) {
    if (const std::shared_ptr<KeptWeight> kept = known.lock()) sum += kept->memory.bytes();
  }
  return sum;
}

std::string Engine::run(Plan& plan) {
  if (!resolve(plan)) return "a tensor of this plan has been freed";
  for (const Plan::Step& step : plan.steps) {
    const auto start = Clock::now();
    writeZerosFor(plan, step);
    for (int i = 0; i < step.writes; i++) {
      const Binding& binding = plan.bindings[step.firstTensor + static_cast<size_t>(i)];
      if (binding.arena) changed(binding.arena.get(), binding.byteOffset, binding.bytes, step.op->squares ? step.gradient : nullptr);
    }
    step.op->run(argsOf(plan, step), *pool_);
    const auto elapsed = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start);
    nanoseconds_[static_cast<size_t>(step.op - kernels_.ops)] += static_cast<uint64_t>(elapsed.count());
    const Pool::Failure failure = pool_->takeFailure();
    if (failure.what != nullptr) return describe(*step.op, failure);
  }
  return "";
}

double Engine::measurePeak() {
  double best = 0;
  const auto end = Clock::now() + std::chrono::milliseconds(200);
  while (Clock::now() < end) {
    const auto start = Clock::now();
    const double flops = kernels_.multiplyAdd(*pool_, mixed_);
    best = std::max(best, flops / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

double Engine::measureBandwidth() {
  constexpr size_t bytes = size_t{512} << 20;
  constexpr int passes = 15;
  Arena memory(bytes);
  std::fill(memory.data(), memory.data() + bytes, char{1});
  std::vector<double> speeds;
  double total = 0;
  for (int pass = 0; pass < passes; pass++) {
    const auto start = Clock::now();
    total += kernels_.readThrough(reinterpret_cast<const float*>(memory.data()), bytes / sizeof(float), *pool_);
    speeds.push_back(static_cast<double>(bytes) / std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::sort(speeds.begin(), speeds.end());
  // The sum is used, so that the reads are done.
  return total == 0 ? 0 : speeds[passes / 2];
}

}  // namespace moe
