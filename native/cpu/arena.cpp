#include "arena.h"

#include <stdint.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <system_error>

#if defined(_WIN32)
#include <windows.h>
#else
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace moe {
namespace {

constexpr size_t hugePageBytes = size_t{2} << 20;
constexpr size_t pieceBytes = size_t{32} << 20;  // brought in between two looks at whether to stop

// One arena at a time: the system gives pages no faster to several, and the other processors have work.
std::mutex touching;

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

void Arena::map(const char* path) {
#if defined(_WIN32)
  const auto fail = [] { throw std::system_error(static_cast<int>(GetLastError()), std::system_category()); };
  wchar_t wide[32768];
  if (MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, 32768) == 0) fail();
  const HANDLE file = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) fail();
  LARGE_INTEGER size{};
  GetFileSizeEx(file, &size);
  const HANDLE section = CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr);
  CloseHandle(file);
  if (section == nullptr) fail();
  mapping_ = MapViewOfFile(section, FILE_MAP_READ, 0, 0, 0);
  CloseHandle(section);
  if (mapping_ == nullptr) fail();
  mappingBytes_ = static_cast<size_t>(size.QuadPart);
#else
  const auto fail = [] { throw std::system_error(errno, std::generic_category()); };
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) fail();
  struct stat status{};
  void* mapping = MAP_FAILED;
  if (fstat(file, &status) == 0) mapping = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_SHARED, file, 0);
  const int reason = errno;
  ::close(file);
  if (mapping == MAP_FAILED) throw std::system_error(reason, std::generic_category());
  mapping_ = mapping;
  mappingBytes_ = static_cast<size_t>(status.st_size);
#if defined(MADV_HUGEPAGE)
  // Where the file system has large folios, pages of the file are read and mapped two megabytes at a time.
  madvise(mapping, mappingBytes_, MADV_HUGEPAGE);
#endif
#endif
  data_ = static_cast<char*>(mapping_);
  bytes_ = mappingBytes_;
  readOnly_ = true;
  stopping_.store(false);
  reader_ = std::thread([this] { readAhead(); });
}

// Brings the file in from its first to its last byte and maps its pages, so that a run that comes later waits for neither.
void Arena::readAhead() {
  constexpr size_t page = 4096;
  for (size_t at = 0; at < bytes_; at += pieceBytes) {
    const size_t end = std::min(bytes_, at + pieceBytes);
#if defined(MADV_POPULATE_READ)
    if (!stopping_.load() && madvise(data_ + at, end - at, MADV_POPULATE_READ) == 0) continue;
#endif
    for (size_t byte = at; byte < end && !stopping_.load(); byte += page) static_cast<void>(*static_cast<volatile char*>(data_ + byte));
  }
}

void Arena::populate() {
#if defined(MADV_POPULATE_WRITE)
  if (readOnly_ || bytes_ < hugePageBytes || reader_.joinable()) return;
  stopping_.store(false);
  reader_ = std::thread([this] { touchAhead(); });
#endif
}

// The contents stay as they are, whoever writes meanwhile. A system that refuses gives pages as they are touched.
void Arena::touchAhead() {
#if defined(MADV_POPULATE_WRITE)
  for (size_t at = 0; at < bytes_; at += pieceBytes) {
    const std::lock_guard<std::mutex> lock(touching);
    if (stopping_.load() || madvise(data_ + at, std::min(bytes_ - at, pieceBytes), MADV_POPULATE_WRITE) != 0) return;
  }
#endif
}

void Arena::Note::makeSquares(size_t count) {
  squares.resize(std::max(squares.size(), count));
  gradient.squares = squares.data();
  gradient.squareCount = static_cast<int64_t>(squares.size());
}

Arena::Note* Arena::noteOf(size_t byteOffset, size_t bytes) {
  for (const std::unique_ptr<Note>& note : notes_) {
    if (note->byteOffset == byteOffset && note->bytes == bytes) return note.get();
  }
  notes_.emplace_back(new Note{byteOffset, bytes, {}, {}});
  return notes_.back().get();
}

void Arena::writeZeros(size_t byteOffset, size_t bytes, const Note* except) {
  for (const std::unique_ptr<Note>& note : notes_) {
    if (!note->gradient.isZero || note.get() == except || byteOffset >= note->byteOffset + note->bytes || note->byteOffset >= byteOffset + bytes) continue;
    std::fill_n(data_ + note->byteOffset, note->bytes, char{0});
    note->gradient.isZero = false;
  }
}

void Arena::forgetSquares(size_t byteOffset, size_t bytes, const Note* except) {
  for (const std::unique_ptr<Note>& note : notes_) {
    if (note.get() != except && byteOffset < note->byteOffset + note->bytes && note->byteOffset < byteOffset + bytes) note->gradient.hasSquares = false;
  }
}

void Arena::free() {
  stopping_.store(true);
  if (reader_.joinable()) reader_.join();
  if (mapping_ != nullptr) {
#if defined(_WIN32)
    if (readOnly_) UnmapViewOfFile(mapping_);
    else VirtualFree(mapping_, 0, MEM_RELEASE);
#else
    munmap(mapping_, mappingBytes_);
#endif
  }
  mapping_ = nullptr;
  data_ = nullptr;
  bytes_ = mappingBytes_ = 0;
  readOnly_ = false;
  for (const std::unique_ptr<Note>& note : notes_) note->gradient.isZero = note->gradient.hasSquares = false;
}

}  // namespace moe
