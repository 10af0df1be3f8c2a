// Memory of a plan's tensors: either zero-filled memory straight from the operating system, on huge pages where it has them: a training step over 4 KB
// pages of malloc spends a fifth and more of its time on page faults; or a file, mapped read-only, whose pages the system
// keeps in its cache, drops when memory is short, and reads ahead of what is used. Freed when told so or with its last owner.
#pragma once

#include <stddef.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "args.h"

namespace moe {

class Arena {
 public:
  // What is known of a gradient in this memory. It is mostly overwritten before anybody looks, so that its zeros are only noted.
  struct Note {
    size_t byteOffset, bytes;
    Gradient gradient;
    std::vector<float> squares;

    void makeSquares(size_t count);
  };

  // Throws std::bad_alloc when the system has no such memory.
  explicit Arena(size_t bytes) { resize(bytes); }
  // Maps a file. Throws std::system_error with the system's reason.
  explicit Arena(const char* path) { map(path); }
  ~Arena() { free(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // New zero-filled memory in place of the old.
  void resize(size_t bytes);
  void free();
  // Begins to bring the pages of memory in, in the background: the first touch of one takes longer than all later ones.
  void populate();

  // The one note on these bytes, kept as long as the arena.
  Note* noteOf(size_t byteOffset, size_t bytes);
  // Writes all zeros that are only noted and overlap these bytes: before anybody looks there or writes a part.
  void writeZeros(size_t byteOffset, size_t bytes, const Note* except = nullptr);
  // Drops the squares of gradients that overlap these bytes, which will be other ones.
  void forgetSquares(size_t byteOffset, size_t bytes, const Note* except = nullptr);

  // null after free(); aligned to 4096 bytes.
  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  bool isReadOnly() const { return readOnly_; }

 private:
  void map(const char* path);
  void readAhead();
  void touchAhead();

  char* data_ = nullptr;
  size_t bytes_ = 0;
  void* mapping_ = nullptr;
  size_t mappingBytes_ = 0;
  bool readOnly_ = false;
  std::vector<std::unique_ptr<Note>> notes_;
  // Brings pages in ahead of the runs, until it is done or told to stop.
  std::thread reader_;
  std::atomic<bool> stopping_{false};
};

}  // namespace moe
