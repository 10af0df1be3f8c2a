#include "arena.h"

#include <stdint.h>

#include <new>

#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#endif

namespace moe {
namespace {

constexpr size_t hugePageBytes = size_t{2} << 20;

}  // namespace

void Arena::resize(size_t bytes) {
  free();
  if (bytes == 0) bytes = 1;
#if defined(_WIN32)
  mapping_ = VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
  if (mapping_ == nullptr) throw std::bad_alloc();
  mappingBytes_ = bytes;
  data_ = static_cast<char*>(mapping_);
#else
  // Large arenas start on a huge page.
  const bool huge = bytes >= hugePageBytes;
  mappingBytes_ = huge ? bytes + hugePageBytes : bytes;
  void* mapping = mmap(nullptr, mappingBytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = mapping;
  data_ = static_cast<char*>(mapping);
  if (huge) {
    data_ += (hugePageBytes - reinterpret_cast<uintptr_t>(mapping) % hugePageBytes) % hugePageBytes;
#if defined(MADV_HUGEPAGE)
    madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  }
#endif
  bytes_ = bytes;
}

void Arena::free() {
  if (mapping_ != nullptr) {
#if defined(_WIN32)
    VirtualFree(mapping_, 0, MEM_RELEASE);
#else
    munmap(mapping_, mappingBytes_);
#endif
  }
  mapping_ = nullptr;
  data_ = nullptr;
  bytes_ = mappingBytes_ = 0;
}

}  // namespace moe
