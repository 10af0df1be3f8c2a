// The dot products of a strip of 16 rows with a tile of tokens, and how tokens are rounded for them. The one file with
// intrinsics (they are always inlined, so no copy of them outlives this file): 16 sums of 32 bits are one AVX-512 register,
// two of AVX2, or an array that the compiler makes vectors of.
#include "packed.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the undefined registers of its own intrinsics for a mistake.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace moe::MOE_KERNELS {
namespace {

// Bytes ahead of the one being read that are asked for when few tokens meet a strip, in whole blocks.
constexpr int64_t prefetchBytes = 4096;

#if defined(__GNUC__) || defined(__clang__)
inline void prefetch(const uint8_t* at) { __builtin_prefetch(at); }
#else
inline void prefetch(const uint8_t*) {}
#endif

#if defined(__AVX512F__)

struct Floats {
  __m512 v;
};
struct Ints {
  __m512i v;
};
struct Bytes {
  __m512i v;
};
MOE_INLINE Floats zeroFloats() { return {_mm512_setzero_ps()}; }
MOE_INLINE Floats splatFloats(float x) { return {_mm512_set1_ps(x)}; }
MOE_INLINE Floats multiply(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
MOE_INLINE Floats multiplyAdd(Floats a, Floats b, Floats c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
MOE_INLINE Floats toFloats(Ints x) { return {_mm512_cvtepi32_ps(x.v)}; }
MOE_INLINE Floats loadHalves(const uint8_t* from) { return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))}; }
MOE_INLINE void storeFloats(float* to, Floats x) { _mm512_storeu_ps(to, x.v); }
MOE_INLINE Ints splatInts(int32_t x) { return {_mm512_set1_epi32(x)}; }
MOE_INLINE Bytes loadBytes(const uint8_t* from) { return {_mm512_loadu_si512(from)}; }
MOE_INLINE Bytes lowHalves(Bytes x) { return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))}; }
MOE_INLINE Bytes highHalves(Bytes x) { return {_mm512_and_si512(_mm512_srli_epi16(x.v, 4), _mm512_set1_epi8(15))}; }
// The even and odd numbers of 16 pairs of bf16.
MOE_INLINE Floats evenNumbers(Bytes x) { return {_mm512_castsi512_ps(_mm512_slli_epi32(x.v, 16))}; }
MOE_INLINE Floats oddNumbers(Bytes x) { return {_mm512_castsi512_ps(_mm512_and_si512(x.v, _mm512_set1_epi32(-65536)))}; }

#if defined(__AVX512VNNI__)
// Products of unsigned bytes: signed weights are shifted by 128, which the sums start with taken back.
constexpr int32_t q8Start = -128;
MOE_INLINE Bytes asWeights(Bytes x) { return {_mm512_xor_si512(x.v, _mm512_set1_epi8(-128))}; }
MOE_INLINE Ints dotUnsigned(Ints sum, Bytes weights, int32_t four) { return {_mm512_dpbusd_epi32(sum.v, weights.v, _mm512_set1_epi32(four))}; }
MOE_INLINE Ints dotSigned(Ints sum, Bytes weights, int32_t four) { return dotUnsigned(sum, weights, four); }
#else
constexpr int32_t q8Start = 0;
MOE_INLINE Bytes asWeights(Bytes x) { return x; }
MOE_INLINE Ints dotUnsigned(Ints sum, Bytes weights, int32_t four) {
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(_mm512_maddubs_epi16(weights.v, _mm512_set1_epi32(four)), _mm512_set1_epi16(1)))};
}
// |w|·(a·sign w): no sum of two products leaves 16 bits.
MOE_INLINE Ints dotSigned(Ints sum, Bytes weights, int32_t four) {
  const __m512i a = _mm512_set1_epi32(four);
  const __m512i signedA = _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(weights.v), _mm512_setzero_si512(), a);
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_abs_epi8(weights.v), signedA), _mm512_set1_epi16(1)))};
}
#endif

#elif defined(__AVX2__)

struct Floats {
  __m256 v[2];
};
struct Ints {
  __m256i v[2];
};
struct Bytes {
  __m256i v[2];
};
MOE_INLINE Floats zeroFloats() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
MOE_INLINE Floats splatFloats(float x) { return {{_mm256_set1_ps(x), _mm256_set1_ps(x)}}; }
MOE_INLINE Floats multiply(Floats a, Floats b) { return {{_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1])}}; }
MOE_INLINE Floats multiplyAdd(Floats a, Floats b, Floats c) { return {{_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}}; }
MOE_INLINE Floats toFloats(Ints x) { return {{_mm256_cvtepi32_ps(x.v[0]), _mm256_cvtepi32_ps(x.v[1])}}; }
// Exponent and fraction moved to their places are the number times 2^-112 (no infinities are stored).
MOE_INLINE __m256 eightHalves(const uint8_t* from) {
  const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x8000)), 16);
  const __m256i rest = _mm256_slli_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x7fff)), 13);
  return _mm256_or_ps(_mm256_mul_ps(_mm256_castsi256_ps(rest), _mm256_set1_ps(0x1p112f)), _mm256_castsi256_ps(sign));
}
MOE_INLINE Floats loadHalves(const uint8_t* from) { return {{eightHalves(from), eightHalves(from + 16)}}; }
MOE_INLINE void storeFloats(float* to, Floats x) {
  _mm256_storeu_ps(to, x.v[0]);
  _mm256_storeu_ps(to + 8, x.v[1]);
}
MOE_INLINE Ints splatInts(int32_t x) { return {{_mm256_set1_epi32(x), _mm256_set1_epi32(x)}}; }
MOE_INLINE Bytes loadBytes(const uint8_t* from) {
  return {{_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32))}};
}
MOE_INLINE Bytes lowHalves(Bytes x) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {{_mm256_and_si256(x.v[0], mask), _mm256_and_si256(x.v[1], mask)}};
}
MOE_INLINE Bytes highHalves(Bytes x) { return lowHalves({{_mm256_srli_epi16(x.v[0], 4), _mm256_srli_epi16(x.v[1], 4)}}); }
MOE_INLINE Floats evenNumbers(Bytes x) { return {{_mm256_castsi256_ps(_mm256_slli_epi32(x.v[0], 16)), _mm256_castsi256_ps(_mm256_slli_epi32(x.v[1], 16))}}; }
MOE_INLINE Floats oddNumbers(Bytes x) {
  const __m256i mask = _mm256_set1_epi32(-65536);
  return {{_mm256_castsi256_ps(_mm256_and_si256(x.v[0], mask)), _mm256_castsi256_ps(_mm256_and_si256(x.v[1], mask))}};
}

constexpr int32_t q8Start = 0;
MOE_INLINE Bytes asWeights(Bytes x) { return x; }
MOE_INLINE __m256i addPairs(__m256i sum, __m256i pairs) { return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))); }
MOE_INLINE Ints dotUnsigned(Ints sum, Bytes weights, int32_t four) {
  const __m256i a = _mm256_set1_epi32(four);
  return {{addPairs(sum.v[0], _mm256_maddubs_epi16(weights.v[0], a)), addPairs(sum.v[1], _mm256_maddubs_epi16(weights.v[1], a))}};
}
// |w|·(a·sign w): no sum of two products leaves 16 bits.
MOE_INLINE Ints dotSigned(Ints sum, Bytes weights, int32_t four) {
  const __m256i a = _mm256_set1_epi32(four);
  Ints result = sum;
  for (int i = 0; i < 2; i++) result.v[i] = addPairs(sum.v[i], _mm256_maddubs_epi16(_mm256_abs_epi8(weights.v[i]), _mm256_sign_epi8(a, weights.v[i])));
  return result;
}

#else

struct Floats {
  float v[16];
};
struct Ints {
  int32_t v[16];
};
struct Bytes {
  uint8_t v[64];
};
#define MOE_EACH(type, expression) \
  type result; \
  for (int i = 0; i < static_cast<int>(sizeof result.v / sizeof result.v[0]); i++) result.v[i] = expression; \
  return result

inline float bitsToFloat(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
inline float halfToFloat(const uint8_t* from) {
  const uint32_t bits = from[0] | from[1] << 8;
  const float magnitude = bitsToFloat((bits & 0x7fff) << 13) * 0x1p112f;
  return bits & 0x8000 ? -magnitude : magnitude;
}
inline uint32_t pairAt(const Bytes& x, int i) {
  uint32_t pair;
  memcpy(&pair, x.v + 4 * i, sizeof pair);
  return pair;
}
MOE_INLINE Floats zeroFloats() { return {}; }
MOE_INLINE Floats splatFloats(float x) { MOE_EACH(Floats, x); }
MOE_INLINE Floats multiply(const Floats& a, const Floats& b) { MOE_EACH(Floats, a.v[i] * b.v[i]); }
MOE_INLINE Floats multiplyAdd(const Floats& a, const Floats& b, const Floats& c) { MOE_EACH(Floats, a.v[i] * b.v[i] + c.v[i]); }
MOE_INLINE Floats toFloats(const Ints& x) { MOE_EACH(Floats, static_cast<float>(x.v[i])); }
MOE_INLINE Floats loadHalves(const uint8_t* from) { MOE_EACH(Floats, halfToFloat(from + 2 * i)); }
MOE_INLINE void storeFloats(float* to, const Floats& x) { memcpy(to, x.v, sizeof x.v); }
MOE_INLINE Ints splatInts(int32_t x) { MOE_EACH(Ints, x); }
MOE_INLINE Bytes loadBytes(const uint8_t* from) { MOE_EACH(Bytes, from[i]); }
MOE_INLINE Bytes lowHalves(const Bytes& x) { MOE_EACH(Bytes, static_cast<uint8_t>(x.v[i] & 15)); }
MOE_INLINE Bytes highHalves(const Bytes& x) { MOE_EACH(Bytes, static_cast<uint8_t>(x.v[i] >> 4)); }
MOE_INLINE Floats evenNumbers(const Bytes& x) { MOE_EACH(Floats, bitsToFloat(pairAt(x, i) << 16)); }
MOE_INLINE Floats oddNumbers(const Bytes& x) { MOE_EACH(Floats, bitsToFloat(pairAt(x, i) & 0xffff0000u)); }

constexpr int32_t q8Start = 0;
MOE_INLINE Bytes asWeights(const Bytes& x) { return x; }
MOE_INLINE int32_t byteOf(int32_t four, int i) { return static_cast<int8_t>(static_cast<uint32_t>(four) >> 8 * i); }
MOE_INLINE Ints dotUnsigned(const Ints& sum, const Bytes& w, int32_t four) {
  const int32_t a = byteOf(four, 0), b = byteOf(four, 1), c = byteOf(four, 2), d = byteOf(four, 3);
  MOE_EACH(Ints, sum.v[i] + w.v[4 * i] * a + w.v[4 * i + 1] * b + w.v[4 * i + 2] * c + w.v[4 * i + 3] * d);
}
MOE_INLINE Ints dotSigned(const Ints& sum, const Bytes& weights, int32_t four) {
  int8_t w[64];
  memcpy(w, weights.v, sizeof w);
  const int32_t a = byteOf(four, 0), b = byteOf(four, 1), c = byteOf(four, 2), d = byteOf(four, 3);
  MOE_EACH(Ints, sum.v[i] + w[4 * i] * a + w[4 * i + 1] * b + w[4 * i + 2] * c + w[4 * i + 3] * d);
}
#undef MOE_EACH

#endif

constexpr int64_t quantisedBytes(Format format) { return format == q4 ? 288 : 544; }
// Σ over the integers of a block times this is where the sums of a block start.
constexpr int32_t startFactor(Format format) { return format == q4 ? -8 : q8Start; }

MOE_INLINE int32_t fourAt(const int8_t* from) {
  int32_t four;
  memcpy(&four, from, sizeof four);
  return four;
}

// One strip of q4 or q8 times n tokens.
template <Format format, int n>
void quantisedStrip(const uint8_t* strip, const uint8_t* next, const Tokens& tokens, int64_t first, float* out) {
  constexpr int64_t blocksAhead = prefetchBytes / quantisedBytes(format);
  const int64_t blocks = tokens.blocks();
  const int8_t* a = tokens.integers() + first * tokens.width;
  const float* scales = tokens.scales() + first * blocks;
  const int32_t* starts = tokens.starts() + first * blocks;
  Floats sums[n];
  MOE_UNROLL
  for (int t = 0; t < n; t++) sums[t] = zeroFloats();
  for (int64_t b = 0; b < blocks; b++) {
    if (n <= 4) {
      const uint8_t* ahead = b + blocksAhead < blocks ? strip + blocksAhead * quantisedBytes(format) : next + (b + blocksAhead - blocks) * quantisedBytes(format);
      for (int64_t line = 0; line < quantisedBytes(format); line += 64) prefetch(ahead + line);
    }
    Bytes weights[8];
    if (format == q4) {
      MOE_UNROLL
      for (int g = 0; g < 4; g++) {
        const Bytes both = loadBytes(strip + 64 * g);
        weights[g] = lowHalves(both);
        weights[g + 4] = highHalves(both);
      }
    } else {
      MOE_UNROLL
      for (int g = 0; g < 8; g++) weights[g] = asWeights(loadBytes(strip + 64 * g));
    }
    const Floats weightScale = loadHalves(strip + quantisedBytes(format) - 32);
    MOE_UNROLL
    for (int t = 0; t < n; t++) {
      Ints sum = splatInts(starts[t]);
      MOE_UNROLL
      for (int g = 0; g < 8; g++) sum = format == q4 ? dotUnsigned(sum, weights[g], fourAt(a + blockWidth * t + 4 * g)) : dotSigned(sum, weights[g], fourAt(a + blockWidth * t + 4 * g));
      sums[t] = multiplyAdd(toFloats(sum), multiply(weightScale, splatFloats(scales[t])), sums[t]);
    }
    strip += quantisedBytes(format);
    a += n * blockWidth;
    scales += n;
    starts += n;
  }
  MOE_UNROLL
  for (int t = 0; t < n; t++) storeFloats(out + stripRows * t, sums[t]);
}

// One strip of bf16 times n tokens.
template <int n>
void floatStrip(const uint8_t* strip, const uint8_t* next, const Tokens& tokens, int64_t first, float* out) {
  const int64_t pairs = tokens.blocks();
  const float* a = tokens.memory + first * 2 * pairs;
  Floats sums[n];
  MOE_UNROLL
  for (int t = 0; t < n; t++) sums[t] = zeroFloats();
  for (int64_t pair = 0; pair < pairs; pair++) {
    if (n <= 4) prefetch(pair + prefetchBytes / 64 < pairs ? strip + prefetchBytes : next + (pair - pairs) * 64 + prefetchBytes);
    const Bytes both = loadBytes(strip);
    const Floats even = evenNumbers(both), odd = oddNumbers(both);
    MOE_UNROLL
    for (int t = 0; t < n; t++) sums[t] = multiplyAdd(odd, splatFloats(a[2 * t + 1]), multiplyAdd(even, splatFloats(a[2 * t]), sums[t]));
    strip += 64;
    a += 2 * n;
  }
  MOE_UNROLL
  for (int t = 0; t < n; t++) storeFloats(out + stripRows * t, sums[t]);
}

typedef void (*StripKernel)(const uint8_t*, const uint8_t*, const Tokens&, int64_t, float*);

// Fills kernels[1..n].
template <int n>
struct Kernels {
  static constexpr void fill(StripKernel (*kernels)[3]) {
    kernels[n][0] = floatStrip<n>;
    kernels[n][1] = quantisedStrip<q8, n>;
    kernels[n][2] = quantisedStrip<q4, n>;
    Kernels<n - 1>::fill(kernels);
  }
};
template <>
struct Kernels<0> {
  static constexpr void fill(StripKernel (*)[3]) {}
};

// Filled by the compiler: code that ran when the addon is loaded might be more than the processor can do.
struct KernelTable {
  StripKernel byTokens[tileTokens + 1][3];
  constexpr KernelTable() : byTokens{} { Kernels<tileTokens>::fill(byTokens); }
};
constexpr KernelTable table;

// 32 numbers as integers; gives the scale and the sum of the integers.
float roundBlock(int8_t* to, const float* x, int32_t* sum) {
  Vec top = splat(0);
  for (int64_t i = 0; i < blockWidth; i += lanes) {
    const Vec v = load(x + i);
    top = larger(larger(v, splat(0) - v), top);
  }
  const float scale = largestLane(top) / 127, inverse = scale > 0 ? 1 / scale : 0;
  // Adding 1.5·2^23 rounds to the nearest integer, ties to even, in the low bits.
  int32_t bits[blockWidth];
  for (int64_t i = 0; i < blockWidth; i += lanes) {
    float shifted[lanes];
    store(shifted, load(x + i) * splat(inverse) + splat(12582912.0f));
    memcpy(bits + i, shifted, sizeof shifted);
  }
  int32_t total = 0;
  for (int64_t i = 0; i < blockWidth; i++) {
    const int32_t q = bits[i] - 0x4b400000;
    to[i] = static_cast<int8_t>(q);
    total += q;
  }
  *sum = total;
  return scale;
}

}  // namespace

void placeNumbers(const Tokens& to, int64_t first, int n, int t, int64_t k, const float* x, int64_t count) {
  if (!to.isQuantised()) {
    // k is even: numbers lie in pairs.
    float* pair = to.memory + (first * to.blocks() + k / 2 * n + t) * 2;
    for (int64_t i = 0; i + 2 <= count; i += 2, pair += 2 * n) memcpy(pair, x + i, 2 * sizeof(float));
    if (count % 2 == 1) {
      pair[0] = x[count - 1];
      pair[1] = 0;
    }
    return;
  }
  const int64_t blocks = to.blocks();
  for (int64_t i = 0; i < count; i += blockWidth) {
    const int64_t at = (k + i) / blockWidth * n + t;
    int32_t sum;
    to.scales()[first * blocks + at] = roundBlock(to.integers() + first * to.width + at * blockWidth, x + i, &sum);
    to.starts()[first * blocks + at] = startFactor(to.format) * sum;
  }
}

void copyToken(const Tokens& to, int64_t toFirst, int toN, int toT, const Tokens& from, int64_t fromFirst, int fromN, int fromT) {
  const int64_t blocks = to.blocks();
  if (!to.isQuantised()) {
    float *out = to.memory + (toFirst * blocks + toT) * 2, *in = from.memory + (fromFirst * blocks + fromT) * 2;
    for (int64_t b = 0; b < blocks; b++) memcpy(out + b * toN * 2, in + b * fromN * 2, 2 * sizeof(float));
    return;
  }
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t out = toFirst * blocks + b * toN + toT, in = fromFirst * blocks + b * fromN + fromT;
    memcpy(to.integers() + out * blockWidth, from.integers() + in * blockWidth, blockWidth);
    to.scales()[out] = from.scales()[in];
    to.starts()[out] = from.starts()[in];
  }
}

void multiplyStrip(const Packed& weight, int64_t strip, const Tokens& tokens, Tile tile, float* out, const uint8_t* next) {
  table.byTokens[tile.count][weight.format - bf16](stripOf(weight, strip), next, tokens, tile.first, out);
}

void readRow(const Packed& weight, int64_t row, float* out) {
  const uint8_t* strip = weight.data + row / stripRows * weight.stripBytes();
  const int64_t r = row % stripRows;
  if (weight.format == bf16) {
    for (int64_t k = 0; k < weight.width; k++) {
      uint16_t half;
      memcpy(&half, strip + (k / 2 * stripRows + r) * 4 + k % 2 * 2, sizeof half);
      const uint32_t bits = static_cast<uint32_t>(half) << 16;
      memcpy(out + k, &bits, sizeof bits);
    }
    return;
  }
  const int64_t bytes = quantisedBytes(weight.format);
  for (int64_t b = 0; b < weight.width / blockWidth; b++) {
    const uint8_t* block = strip + b * bytes;
    float scales[stripRows];
    storeFloats(scales, loadHalves(block + bytes - 32));
    for (int64_t i = 0; i < blockWidth; i++) {
      const int64_t half = weight.format == q4 ? i % 16 : i;
      const uint8_t byte = block[(half / 4 * stripRows + r) * 4 + half % 4];
      const int32_t q = weight.format == q8 ? static_cast<int8_t>(byte) : (i < 16 ? byte & 15 : byte >> 4) - 8;
      out[b * blockWidth + i] = scales[r] * static_cast<float>(q);
    }
  }
}

}  // namespace moe::MOE_KERNELS
