// Packed weights (layout: core/backend/packed.ts) and the tokens they meet. A strip is 16 rows interleaved; a tile is a
// few tokens laid out as the kernels read them: integers of 8 bits in blocks of 32 with a scale each where the weight is
// quantised, floats where it is bf16. Products of whole blocks are exact integers, so all instruction sets agree on them.
#pragma once

#include "kernel.h"

namespace moe::MOE_KERNELS {

constexpr int64_t stripRows = 16, blockWidth = 32;

// Tokens that meet a strip at a time: as many as there are registers for their sums.
constexpr int tileTokens = MOE_LANES == 16 ? 16 : 4;

struct Packed {
  const uint8_t* data;
  Format format;
  int64_t rows, width;

  int64_t strips() const { return (rows + stripRows - 1) / stripRows; }
  int64_t stripBytes() const { return format == bf16 ? (width + 1) / 2 * 64 : width / blockWidth * (format == q8 ? 544 : 288); }
};

// Matrix `index` of a packed argument.
inline Packed packedOf(const Args& args, int i, int64_t index = 0) {
  const Tensor& tensor = args.tensors[i];
  Packed matrix = {static_cast<const uint8_t*>(tensor.data), tensor.format, tensor.shape[tensor.rank - 2], tensor.shape[tensor.rank - 1]};
  matrix.data += index * matrix.strips() * matrix.stripBytes();
  return matrix;
}

// Tokens prepared for weights of one format. Those of a tile lie together: block b of token t of a tile of n begins at
// (b·n + t)·32 integers (floats: (b·n + t)·2), its scale and the start of its sum at b·n + t.
struct Tokens {
  Format format;
  int64_t width;
  int64_t capacity;  // tokens
  float* memory;

  bool isQuantised() const { return format != bf16; }
  int64_t blocks() const { return isQuantised() ? width / blockWidth : (width + 1) / 2; }
  int8_t* integers() const { return reinterpret_cast<int8_t*>(memory); }
  float* scales() const { return memory + capacity * width / 4; }
  int32_t* starts() const { return reinterpret_cast<int32_t*>(scales() + capacity * blocks()); }
};

// Floats of memory that `capacity` tokens need.
inline int64_t tokensFloats(Format format, int64_t width, int64_t capacity) {
  return format == bf16 ? capacity * ((width + 1) / 2 * 2) : capacity * (width / 4 + 2 * (width / blockWidth));
}

// Tokens [first, first + count) of a run of tokens, as one of the tiles it is cut into evenly.
struct Tile {
  int64_t first;
  int count;
};
inline int64_t tilesIn(int64_t tokens) { return (tokens + tileTokens - 1) / tileTokens; }
inline Tile tileOf(int64_t tokens, int64_t tile) {
  const int64_t tiles = tilesIn(tokens), first = tokens * tile / tiles;
  return {first, static_cast<int>(tokens * (tile + 1) / tiles - first)};
}

// Lays numbers [k, k + count) of a token down as token t of the tile of n tokens that begins at token `first`. count is a
// whole number of blocks; for bf16 it may end with the row.
void placeNumbers(const Tokens& to, int64_t first, int n, int t, int64_t k, const float* x, int64_t count);

// Copies a token from one tile to another of the same format and width.
void copyToken(const Tokens& to, int64_t toFirst, int toN, int toT, const Tokens& from, int64_t fromFirst, int fromN, int fromT);

// All of x (tokens × width), cut into tiles.
void placeTokens(const Tokens& to, const float* x, int64_t tokens, Pool& pool);

inline const uint8_t* stripOf(const Packed& weight, int64_t strip) { return weight.data + strip * weight.stripBytes(); }

// out[t·16 + r] = row r of the strip · token t of the tile. A few tokens wait for the weight's bytes: `next` is the strip that
// this thread will probably meet after this one, whose beginning is asked for while this one ends.
void multiplyStrip(const Packed& weight, int64_t strip, const Tokens& tokens, Tile tile, float* out, const uint8_t* next);

// Row `row` of a matrix as floats.
void readRow(const Packed& weight, int64_t row, float* out);

}  // namespace moe::MOE_KERNELS
