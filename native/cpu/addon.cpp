// The Node-API glue, and the only file that knows it: three classes (Context, Memory, Plan) over the engine.
// It checks every argument and throws a TypeError or RangeError that names it; the engine and kernels check nothing twice.
// Memory is copied in and out (Electron forbids external ArrayBuffers). Runs happen on a libuv worker, one at a time;
// while one is in flight, its context refuses whatever would touch memory.
#define NODE_ADDON_API_CPP_EXCEPTIONS
#include <napi.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <new>
#include <system_error>
#include <thread>

#include "engine.h"
#include "format.h"
#include "isa.h"

namespace moe {
namespace {

constexpr double maxBytes = 1LL << 46;
constexpr int maxThreads = 1024;

std::string textOf(const Napi::Value& value) {
  return value.IsString() ? "\"" + value.As<Napi::String>().Utf8Value() + "\"" : value.ToString().Utf8Value();
}

[[noreturn]] void typeError(const Napi::Value& found, const std::string& what, const std::string& expected) {
  throw Napi::TypeError::New(found.Env(), what + " is " + textOf(found) + ", expected " + expected);
}

// An integer in [min, max].
int64_t integerOf(const Napi::Value& value, const std::string& what, double min, double max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= min && number <= max) || std::floor(number) != number) {
    typeError(value, what, "an integer from " + std::to_string(static_cast<int64_t>(min)) + " to " + std::to_string(static_cast<int64_t>(max)));
  }
  return static_cast<int64_t>(number);
}

Napi::Array arrayOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsArray()) typeError(value, what, "an array");
  return value.As<Napi::Array>();
}

Napi::Object objectOf(const Napi::Value& value, const std::string& what) {
  if (!value.IsObject()) typeError(value, what, "an object");
  return value.As<Napi::Object>();
}

void requireOpen(Napi::Env env, const Engine& engine, const char* what) {
  if (engine.isClosed()) throw Napi::Error::New(env, std::string(what) + ": the context is closed");
}

void requireIdle(Napi::Env env, const Engine& engine, const char* what) {
  if (engine.busy.load()) throw Napi::Error::New(env, std::string(what) + ": a run is in flight");
}

struct Classes {
  Napi::FunctionReference context, memory, plan;
};

// Work on a libuv thread, settled as a promise. Returns an error's text or "", and puts a number in `result`.
class Job : public Napi::AsyncWorker {
 public:
  using Work = std::function<std::string(double& result)>;

  static Napi::Value start(Napi::Env env, std::shared_ptr<Engine> engine, const char* what, Work work) {
    requireOpen(env, *engine, what);
    bool idle = false;
    if (!engine->busy.compare_exchange_strong(idle, true)) throw Napi::Error::New(env, std::string(what) + ": a run is in flight");
    Job* job = new Job(env, std::move(engine), std::move(work));
    const Napi::Promise promise = job->deferred_.Promise();
    job->Queue();
    return promise;
  }

 protected:
  void Execute() override {
    const std::string error = work_(result_);
    engine_->busy.store(false);
    if (!error.empty()) SetError(error);
  }
  void OnOK() override { deferred_.Resolve(Napi::Number::New(Env(), result_)); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

 private:
  Job(Napi::Env env, std::shared_ptr<Engine> engine, Work work)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), engine_(std::move(engine)), work_(std::move(work)) {}

  Napi::Promise::Deferred deferred_;
  std::shared_ptr<Engine> engine_;
  Work work_;
  double result_ = 0;
};

// A block of memory: byteLength, write, read, resize, populate, free.
class MemoryObject : public Napi::ObjectWrap<MemoryObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Memory",
                       {InstanceAccessor<&MemoryObject::byteLength>("byteLength"), InstanceMethod<&MemoryObject::write>("write"),
                        InstanceMethod<&MemoryObject::read>("read"), InstanceMethod<&MemoryObject::resize>("resize"),
                        InstanceMethod<&MemoryObject::populate>("populate"), InstanceMethod<&MemoryObject::release>("free")});
  }

  explicit MemoryObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<MemoryObject>(info) {}

  void open(Napi::Env env, std::shared_ptr<Engine> engine, int64_t bytes) {
    engine_ = std::move(engine);
    allocate(env, bytes);
  }

  // A mapped file is the system's memory, not ours: the garbage collector is told nothing.
  void openFile(Napi::Env env, std::shared_ptr<Engine> engine, const std::string& path) {
    engine_ = std::move(engine);
    try {
      arena_ = std::make_shared<Arena>(path.c_str());
    } catch (const std::system_error& error) {
      throw Napi::Error::New(env, "map: " + path + ": " + error.code().message());
    }
  }

  void Finalize(Napi::BasicEnv env) override { account(env, 0); }

  const std::shared_ptr<Arena>& arena() const { return arena_; }

 private:
  // Tells the garbage collector how much memory hangs on this object.
  void account(Napi::BasicEnv env, int64_t bytes) {
    Napi::MemoryManagement::AdjustExternalMemory(env, bytes - accounted_);
    accounted_ = bytes;
  }

  void allocate(Napi::Env env, int64_t bytes) {
    try {
      if (arena_) arena_->resize(static_cast<size_t>(bytes));
      else arena_ = std::make_shared<Arena>(static_cast<size_t>(bytes));
    } catch (const std::bad_alloc&) {
      account(env, 0);
      Napi::Error error = Napi::Error::New(env, "cannot allocate " + std::to_string(bytes) + " bytes");
      error.Set("code", "ENOMEM");
      throw error;
    }
    account(env, bytes);
  }

  Napi::Value byteLength(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(arena_->bytes())); }

  // The bytes of info[1], which must fit into the arena at byte offset info[0].
  std::pair<char*, Napi::Uint8Array> window(const Napi::CallbackInfo& info, const char* what) {
    requireIdle(info.Env(), *engine_, what);
    if (arena_->data() == nullptr) throw Napi::Error::New(info.Env(), std::string(what) + ": this memory has been freed");
    const int64_t offset = integerOf(info[0], std::string(what) + ": byteOffset", 0, maxBytes);
    if (!info[1].IsTypedArray()) typeError(info[1], std::string(what) + ": data", "a typed array");
    const Napi::TypedArray data = info[1].As<Napi::TypedArray>();
    if (static_cast<size_t>(offset) + data.ByteLength() > arena_->bytes()) {
      throw Napi::RangeError::New(info.Env(), std::string(what) + ": bytes " + std::to_string(offset) + " to " + std::to_string(static_cast<size_t>(offset) + data.ByteLength()) +
                                                  " of " + std::to_string(arena_->bytes()));
    }
    arena_->writeZeros(static_cast<size_t>(offset), data.ByteLength());
    return {arena_->data() + offset, Napi::Uint8Array::New(info.Env(), data.ByteLength(), data.ArrayBuffer(), data.ByteOffset())};
  }

  void write(const Napi::CallbackInfo& info) {
    if (arena_ && arena_->isReadOnly()) throw Napi::Error::New(info.Env(), "write: a mapped file is read-only");
    auto [memory, data] = window(info, "write");
    memcpy(memory, data.Data(), data.ByteLength());
    engine_->changed(arena_.get(), static_cast<size_t>(memory - arena_->data()), data.ByteLength());
  }

  void read(const Napi::CallbackInfo& info) {
    auto [memory, data] = window(info, "read");
    memcpy(data.Data(), memory, data.ByteLength());
  }

  void resize(const Napi::CallbackInfo& info) {
    requireIdle(info.Env(), *engine_, "resize");
    if (arena_->isReadOnly()) throw Napi::Error::New(info.Env(), "resize: a mapped file has its size");
    engine_->changed(arena_.get(), 0, arena_->bytes());
    allocate(info.Env(), integerOf(info[0], "resize: bytes", 0, maxBytes));
  }

  void populate(const Napi::CallbackInfo&) { arena_->populate(); }

  void release(const Napi::CallbackInfo& info) {
    requireIdle(info.Env(), *engine_, "free");
    arena_->free();
    account(info.Env(), 0);
  }

  std::shared_ptr<Engine> engine_;
  std::shared_ptr<Arena> arena_;
  int64_t accounted_ = 0;
};

// A prepared plan: run, on a worker, and runNow, on the calling thread.
class PlanObject : public Napi::ObjectWrap<PlanObject> {
 public:
  static Napi::Function define(Napi::Env env) { return DefineClass(env, "Plan", {InstanceMethod<&PlanObject::run>("run"), InstanceMethod<&PlanObject::runNow>("runNow")}); }

  explicit PlanObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PlanObject>(info) {}

  void open(std::shared_ptr<Engine> engine, std::shared_ptr<Plan> plan) {
    engine_ = std::move(engine);
    plan_ = std::move(plan);
  }

 private:
  Napi::Value run(const Napi::CallbackInfo& info) {
    return Job::start(info.Env(), engine_, "run", [engine = engine_, plan = plan_](double&) { return engine->run(*plan); });
  }

  void runNow(const Napi::CallbackInfo& info) {
    requireOpen(info.Env(), *engine_, "run");
    requireIdle(info.Env(), *engine_, "run");
    const std::string error = engine_->run(*plan_);
    if (!error.empty()) throw Napi::Error::New(info.Env(), error);
  }

  std::shared_ptr<Engine> engine_;
  std::shared_ptr<Plan> plan_;
};

// An engine: allocate, map, prepare, populate, measurePeak, measureBandwidth, profile, isa, precision, halves, byteLength, threads, close.
class ContextObject : public Napi::ObjectWrap<ContextObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Context",
                       {InstanceMethod<&ContextObject::allocate>("allocate"), InstanceMethod<&ContextObject::map>("map"), InstanceMethod<&ContextObject::prepare>("prepare"),
                        InstanceMethod<&ContextObject::populate>("populate"),
                        InstanceMethod<&ContextObject::measurePeak>("measurePeak"), InstanceMethod<&ContextObject::measureBandwidth>("measureBandwidth"),
                        InstanceMethod<&ContextObject::profile>("profile"),
                        InstanceMethod<&ContextObject::close>("close"), InstanceAccessor<&ContextObject::isa>("isa"),
                        InstanceAccessor<&ContextObject::precision>("precision"), InstanceMethod<&ContextObject::halves>("halves"), InstanceAccessor<&ContextObject::byteLength>("byteLength"),
                        InstanceAccessor<&ContextObject::threads>("threads")});
  }

  explicit ContextObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ContextObject>(info) {}

  void open(std::shared_ptr<Engine> engine) { engine_ = std::move(engine); }

 private:
  Engine& opened(Napi::Env env, const char* what) {
    requireOpen(env, *engine_, what);
    return *engine_;
  }

  Napi::Value isa(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), engine_->kernels().isa); }
  Napi::Value precision(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), engine_->isMixed() ? "mixed" : "float32"); }

  Napi::Value byteLength(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), static_cast<double>(engine_->bytes())); }

  // halves(op): bit i is set where tensor i of the op may be bf16.
  Napi::Value halves(const Napi::CallbackInfo& info) {
    const Op* op = info[0].IsString() ? engine_->findOp(info[0].As<Napi::String>().Utf8Value()) : nullptr;
    if (op == nullptr) typeError(info[0], "halves: op", "the name of an op");
    return Napi::Number::New(info.Env(), engine_->isMixed() ? op->halves : 0);
  }

  Napi::Value threads(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), opened(info.Env(), "threads").threads()); }

  Napi::Value allocate(const Napi::CallbackInfo& info) {
    opened(info.Env(), "allocate");
    const int64_t bytes = integerOf(info[0], "allocate: bytes", 0, maxBytes);
    const Napi::Object memory = info.Env().GetInstanceData<Classes>()->memory.New({});
    MemoryObject::Unwrap(memory)->open(info.Env(), engine_, bytes);
    return memory;
  }

  Napi::Value map(const Napi::CallbackInfo& info) {
    opened(info.Env(), "map");
    if (!info[0].IsString()) typeError(info[0], "map: path", "a string");
    const Napi::Object memory = info.Env().GetInstanceData<Classes>()->memory.New({});
    MemoryObject::Unwrap(memory)->openFile(info.Env(), engine_, info[0].As<Napi::String>().Utf8Value());
    return memory;
  }

  // `mayBeHalf`: the op takes bf16 here.
  void bindTensor(Plan& plan, const Napi::Value& value, const std::string& what, bool optional, bool mayBeHalf) {
    Tensor tensor{};
    if (value.IsNull() && optional) {
      plan.tensors.push_back(tensor);
      plan.bindings.push_back({nullptr, 0, 0});
      return;
    }
    const Napi::Object object = objectOf(value, what);
    const Napi::Value memory = object.Get("memory");
    if (!memory.IsObject() || !memory.As<Napi::Object>().InstanceOf(Env().GetInstanceData<Classes>()->memory.Value())) typeError(memory, what + ".memory", "a Memory");
    const Napi::Array shape = arrayOf(object.Get("shape"), what + ".shape");
    if (shape.Length() > maxRank) typeError(shape, what + ".shape", "at most " + std::to_string(maxRank) + " sizes");
    tensor.rank = static_cast<int>(shape.Length());
    tensor.half = object.Get("half").ToBoolean();
    if (tensor.half && !mayBeHalf) typeError(object.Get("half"), what + ".half", "false");
    const Napi::Value format = object.Get("format");
    tensor.format = format.IsString() ? formatOf(format.As<Napi::String>().Utf8Value()) : plain;
    if (tensor.format == plain && !format.IsUndefined()) typeError(format, what + ".format", "one of bf16, q8, q4");
    for (int axis = 0; axis < tensor.rank; axis++) {
      tensor.shape[axis] = integerOf(shape.Get(static_cast<uint32_t>(axis)), what + ".shape[" + std::to_string(axis) + "]", 1, 1LL << 40);
    }
    const double bytes = bytesOf(tensor) / (tensor.half ? 2 : 1);
    if (bytes < 0) typeError(shape, what + ".shape", "that of a packed matrix, in whole blocks");
    const int64_t offset = integerOf(object.Get("byteOffset"), what + ".byteOffset", 0, maxBytes);
    const std::shared_ptr<Arena>& arena = MemoryObject::Unwrap(memory.As<Napi::Object>())->arena();
    if (offset % 4 != 0) typeError(object.Get("byteOffset"), what + ".byteOffset", "a multiple of 4");
    if (static_cast<double>(offset) + bytes > static_cast<double>(arena->bytes())) {
      throw Napi::RangeError::New(Env(), what + ": ends at byte " + std::to_string(static_cast<int64_t>(static_cast<double>(offset) + bytes)) + " of " + std::to_string(arena->bytes()));
    }
    plan.tensors.push_back(tensor);
    plan.bindings.push_back({arena, static_cast<size_t>(offset), static_cast<size_t>(bytes)});
  }

  void bindRecord(Plan& plan, const Napi::Object& record, const std::string& at) {
    const Napi::Value name = record.Get("op");
    const Op* op = name.IsString() ? engine_->findOp(name.As<Napi::String>().Utf8Value()) : nullptr;
    if (op == nullptr) typeError(name, at + ".op", "the name of an op");
    const std::string what = at + " (" + op->name + ")";
    const bool mixed = engine_->isMixed() && !record.Get("precise").ToBoolean();
    plan.steps.push_back({op, plan.tensors.size(), plan.attrs.size(), mixed, 0, nullptr, nullptr});
    const Napi::Array tensors = arrayOf(record.Get("tensors"), what + ".tensors"), attrs = arrayOf(record.Get("attrs"), what + ".attrs");
    if (static_cast<int>(tensors.Length()) != op->tensors) throw Napi::TypeError::New(Env(), what + " has " + std::to_string(tensors.Length()) + " tensors, expected " + std::to_string(op->tensors));
    if (static_cast<int>(attrs.Length()) != op->attrs) throw Napi::TypeError::New(Env(), what + " has " + std::to_string(attrs.Length()) + " attrs, expected " + std::to_string(op->attrs));
    for (int i = 0; i < op->tensors; i++) bindTensor(plan, tensors.Get(static_cast<uint32_t>(i)), what + ".tensors[" + std::to_string(i) + "]", i >= op->tensors - op->optional, mixed && (op->halves >> i & 1) != 0);
    for (int i = 0; i < op->attrs; i++) {
      const Napi::Value attr = attrs.Get(static_cast<uint32_t>(i));
      if (!attr.IsNumber()) typeError(attr, what + ".attrs[" + std::to_string(i) + "]", "a number");
      plan.attrs.push_back(attr.As<Napi::Number>().DoubleValue());
    }
    const Napi::Value writes = record.Get("writes");
    if (!writes.IsUndefined()) plan.steps.back().writes = static_cast<int>(integerOf(writes, what + ".writes", 0, op->tensors));
    engine_->noteGradient(plan, plan.steps.back());
    if (record.Get("keepsWeight").ToBoolean()) engine_->keepWeight(plan, plan.steps.back());
  }

  Napi::Value prepare(const Napi::CallbackInfo& info) {
    requireIdle(info.Env(), opened(info.Env(), "prepare"), "prepare");
    const Napi::Array records = arrayOf(info[0], "prepare: records");
    auto plan = std::make_shared<Plan>();
    for (uint32_t i = 0; i < records.Length(); i++) {
      const Napi::HandleScope scope(info.Env());
      const std::string at = "prepare: records[" + std::to_string(i) + "]";
      bindRecord(*plan, objectOf(records.Get(i), at), at);
    }
    engine_->reserve(*plan);
    const Napi::Object object = info.Env().GetInstanceData<Classes>()->plan.New({});
    PlanObject::Unwrap(object)->open(engine_, std::move(plan));
    return object;
  }

  void populate(const Napi::CallbackInfo& info) {
    requireIdle(info.Env(), opened(info.Env(), "populate"), "populate");
    engine_->populate();
  }

  Napi::Value measurePeak(const Napi::CallbackInfo& info) {
    return Job::start(info.Env(), engine_, "measurePeak", [engine = engine_](double& result) {
      result = engine->measurePeak();
      return std::string();
    });
  }

  Napi::Value measureBandwidth(const Napi::CallbackInfo& info) {
    return Job::start(info.Env(), engine_, "measureBandwidth", [engine = engine_](double& result) {
      result = engine->measureBandwidth();
      return std::string();
    });
  }

  Napi::Value profile(const Napi::CallbackInfo& info) {
    const Engine& engine = opened(info.Env(), "profile");
    requireIdle(info.Env(), engine, "profile");
    Napi::Object times = Napi::Object::New(info.Env());
    for (int i = 0; i < engine.kernels().opCount; i++) {
      const uint64_t nanoseconds = engine.nanoseconds()[static_cast<size_t>(i)];
      if (nanoseconds > 0) times.Set(engine.kernels().ops[i].name, Napi::Number::New(info.Env(), static_cast<double>(nanoseconds)));
    }
    return times;
  }

  void close(const Napi::CallbackInfo& info) {
    requireIdle(info.Env(), *engine_, "close");
    engine_->close();
  }

  std::shared_ptr<Engine> engine_;
};

Napi::Value instructionSets(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const KernelSet* set : supportedKernelSets()) names.Set(names.Length(), Napi::String::New(info.Env(), set->isa));
  return names;
}

// createContext({threads?, isa?, mixed?}): defaults are all hardware threads, the best instruction set, float32.
Napi::Value createContext(const Napi::CallbackInfo& info) {
  const Napi::Object options = objectOf(info[0], "createContext: options");
  const Napi::Value threads = options.Get("threads"), isa = options.Get("isa");
  const int hardware = static_cast<int>(std::thread::hardware_concurrency());
  const int count = threads.IsUndefined() ? std::max(1, hardware) : static_cast<int>(integerOf(threads, "createContext: threads", 1, maxThreads));
  const std::vector<const KernelSet*> sets = supportedKernelSets();
  const KernelSet* chosen = isa.IsUndefined() ? sets.front() : nullptr;
  std::string known;
  for (const KernelSet* set : sets) {
    if (isa.IsString() && isa.As<Napi::String>().Utf8Value() == set->isa) chosen = set;
    known += known.empty() ? set->isa : std::string(", ") + set->isa;
  }
  if (chosen == nullptr) typeError(isa, "createContext: isa", "one that this processor has: " + known);
  const Napi::Object object = info.Env().GetInstanceData<Classes>()->context.New({});
  ContextObject::Unwrap(object)->open(std::make_shared<Engine>(*chosen, count, options.Get("mixed").ToBoolean()));
  return object;
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  Classes* classes = new Classes;
  classes->context = Napi::Persistent(ContextObject::define(env));
  classes->memory = Napi::Persistent(MemoryObject::define(env));
  classes->plan = Napi::Persistent(PlanObject::define(env));
  env.SetInstanceData(classes);
  exports.Set("instructionSets", Napi::Function::New(env, instructionSets));
  exports.Set("createContext", Napi::Function::New(env, createContext));
  return exports;
}

NODE_API_MODULE(moe, initialise)

}  // namespace
}  // namespace moe
