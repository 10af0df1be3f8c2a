// ropeForward, ropeBackward: rotary positions in the rotate-half form (arXiv 2104.09864).
#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t maxHalf = 256;  // pairs of a head turned at a time

// Angles position · frequency of some pairs, in double: at position 4096 a float angle is off by 2e-4. Going to the next
// position turns the last angle by its frequency instead of asking for a sine; ranges are too short for that error to show.
// Every layer of a step of decoding turns by the same angles: a thread remembers those it asked for last.
struct Angles {
  double frequency[maxHalf], stepCosine[maxHalf], stepSine[maxHalf], cosine[maxHalf], sine[maxHalf];
  double askedCosine[maxHalf], askedSine[maxHalf];
  int64_t first, count, headWidth;
  double theta;
  int64_t position, askedPosition;

  void begin(int64_t fromPair, int64_t pairs, int64_t width, double base) {
    position = INT64_MIN;
    if (fromPair == first && pairs == count && width == headWidth && base == theta) return;
    first = fromPair;
    count = pairs;
    headWidth = width;
    theta = base;
    askedPosition = INT64_MIN;
    for (int64_t i = 0; i < count; i++) {
      frequency[i] = pow(theta, -2.0 * static_cast<double>(first + i) / static_cast<double>(headWidth));
      stepCosine[i] = cos(frequency[i]);
      stepSine[i] = sin(frequency[i]);
    }
  }

  void moveTo(int64_t to) {
    if (to == position) return;
    if (to == position + 1) {
      for (int64_t i = 0; i < count; i++) {
        const double c = cosine[i] * stepCosine[i] - sine[i] * stepSine[i];
        sine[i] = sine[i] * stepCosine[i] + cosine[i] * stepSine[i];
        cosine[i] = c;
      }
    } else {
      for (int64_t i = 0; i < count && to != askedPosition; i++) {
        askedCosine[i] = cos(static_cast<double>(to) * frequency[i]);
        askedSine[i] = sin(static_cast<double>(to) * frequency[i]);
      }
      askedPosition = to;
      memcpy(cosine, askedCosine, static_cast<size_t>(count) * sizeof(double));
      memcpy(sine, askedSine, static_cast<size_t>(count) * sizeof(double));
    }
    position = to;
  }
};
thread_local Angles angles;

// Pairs (low[i], high[i]) turned by the angle whose cosine and sine are given.
template <class To>
void turn(To* toLow, To* toHigh, const float* low, const float* high, const float* cosine, const float* sine, int64_t count) {
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const Vec a = load(low + i), b = load(high + i), c = load(cosine + i), s = load(sine + i);
    store(toLow + i, a * c - b * s);
    store(toHigh + i, b * c + a * s);
  }
  for (; i < count; i++) {
    storeOne(toLow + i, low[i] * cosine[i] - high[i] * sine[i]);
    storeOne(toHigh + i, high[i] * cosine[i] + low[i] * sine[i]);
  }
}

// to = from (T H·C) with every pair (i, i + C/2) of every head turned by direction · positions[t] · theta^(−2i/C).
template <class To>
void rotate(To* to, const Args& args, Pool& pool, float direction) {
  const float* from = f32(args, 1);
  const int32_t* positions = i32(args, 2);
  const int64_t tokens = dim(args, 0, 0), width = dim(args, 0, 1), heads = static_cast<int64_t>(args.attrs[0]);
  const int64_t headWidth = width / heads, half = headWidth / 2;
  parallelRanges(pool, tokens, 2 * width, [&](int64_t begin, int64_t end) {
    for (int64_t first = 0; first < half; first += maxHalf) {
      float cosine[maxHalf], sine[maxHalf];
      const int64_t pairs = least(maxHalf, half - first);
      angles.begin(first, pairs, headWidth, args.attrs[1]);
      for (int64_t t = begin; t < end; t++) {
        angles.moveTo(positions[t]);
        for (int64_t i = 0; i < pairs; i++) {
          cosine[i] = static_cast<float>(angles.cosine[i]);
          sine[i] = direction * static_cast<float>(angles.sine[i]);
        }
        for (int64_t head = 0; head < heads; head++) {
          const int64_t low = t * width + head * headWidth + first, high = low + half;
          turn(to + low, to + high, from + low, from + high, cosine, sine, pairs);
        }
      }
    }
  });
}

void rotate(const Args& args, Pool& pool, float direction) {
  withElements(args, 0, [&](auto* to) { rotate(to, args, pool, direction); });
}

}  // namespace

void ropeForward(const Args& args, Pool& pool) { rotate(args, pool, 1); }

void ropeBackward(const Args& args, Pool& pool) { rotate(args, pool, -1); }

}  // namespace moe::MOE_KERNELS
