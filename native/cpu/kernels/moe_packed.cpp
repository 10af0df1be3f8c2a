// moePackedForward: a whole MoE layer behind its router on packed weights. Slots are the T·K assignments sorted by expert.
// Two passes over jobs of (expert, rows): gate and up projection with SwiGLU, whose result is rounded for the down
// projection as it is made; then the down projection. One token adds its experts up as it goes; many write every slot's
// output, and a third pass adds each token's, in the order of its experts: the same sums in the same order.
#include "packed.h"

#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t jobBytes = 128 << 10;  // of weights that one job reads, at most
constexpr int64_t fewestJobs = 16;       // where there is enough to share out
constexpr int64_t chunk = 32;            // columns of the hidden layer: a block of the down projection
constexpr int64_t chunksAtATime = 4;

struct Layer {
  float* y;
  const float *x, *gates, *add;
  const int32_t* experts;
  Packed gate, up, down;
  int64_t tokens, k, slots, width, hidden, expertCount;
};

Layer layerOf(const Args& args) {
  const int64_t tokens = dim(args, 2, 0), k = dim(args, 2, 1);
  return {f32(args, 0), f32(args, 1), f32(args, 3), f32(args, 7), i32(args, 2), packedOf(args, 4), packedOf(args, 5), packedOf(args, 6),
          tokens, k, tokens * k, dim(args, 0, 1), dim(args, 4, 1), dim(args, 4, 0)};
}

// Where everything lies in shared memory, in floats.
struct Memory {
  int64_t tokens, gathered, hidden, outputs, order, total;
};

Memory memoryOf(const Layer& l) {
  Memory m{};
  const auto take = [&m](int64_t floats) {
    const int64_t at = m.total;
    m.total += roundUp(floats, 16);
    return at;
  };
  m.tokens = take(tokensFloats(l.gate.format, l.width, l.tokens));
  m.gathered = take(tokensFloats(l.gate.format, l.width, l.slots));
  m.hidden = take(tokensFloats(l.down.format, l.hidden, l.slots));
  m.outputs = take(l.tokens > 1 ? l.slots * l.width : 0);
  // slot -> assignment, assignment -> slot, first slot of each expert, experts that have slots.
  m.order = take(2 * l.slots + 2 * l.expertCount + 2);
  return m;
}

// The slots by expert, and the jobs' experts.
struct Order {
  int32_t *assignment, *slot, *first, *used;
  int64_t usedCount;

  int64_t count(int64_t e) const { return first[e + 1] - first[e]; }
};

// A stable counting sort; false when an expert does not exist.
bool sortSlots(const Layer& l, float* memory, Order& order, Pool& pool) {
  order.assignment = reinterpret_cast<int32_t*>(memory);
  order.slot = order.assignment + l.slots;
  order.first = order.slot + l.slots;
  order.used = order.first + l.expertCount + 1;
  memset(order.first, 0, (l.expertCount + 1) * sizeof(int32_t));
  for (int64_t i = 0; i < l.slots; i++) {
    const int32_t e = l.experts[i];
    if (e < 0 || e >= l.expertCount) {
      pool.fail("experts", i, e, l.expertCount);
      return false;
    }
    order.first[e + 1]++;
  }
  order.usedCount = 0;
  for (int64_t e = 0; e < l.expertCount; e++) {
    if (order.first[e + 1] > 0) order.used[order.usedCount++] = static_cast<int32_t>(e);
    order.first[e + 1] += order.first[e];
  }
  for (int64_t i = 0; i < l.slots; i++) {
    const int32_t slot = order.first[l.experts[i]]++;
    order.assignment[slot] = static_cast<int32_t>(i);
    order.slot[i] = slot;
  }
  for (int64_t e = l.expertCount; e > 0; e--) order.first[e] = order.first[e - 1];
  order.first[0] = 0;
  return true;
}

// A tile of an expert's slots among all slots.
Tile slotTile(const Order& order, int64_t e, int64_t i) {
  const Tile tile = tileOf(order.count(e), i);
  return {order.first[e] + tile.first, tile.count};
}

// Every expert's tokens side by side.
void gatherTokens(const Layer& l, const Order& order, const Tokens& from, const Tokens& to, Pool& pool) {
  parallel(pool, order.usedCount, [&](int64_t job, int) {
    const int64_t e = order.used[job];
    for (int64_t i = 0; i < tilesIn(order.count(e)); i++) {
      const Tile tile = slotTile(order, e, i);
      for (int t = 0; t < tile.count; t++) {
        const int64_t token = order.assignment[tile.first + t] / l.k;
        // The tile of all tokens that this one is in.
        int64_t fromTile = token * tilesIn(l.tokens) / l.tokens;
        while (tileOf(l.tokens, fromTile).first + tileOf(l.tokens, fromTile).count <= token) fromTile++;
        const Tile source = tileOf(l.tokens, fromTile);
        copyToken(to, tile.first, tile.count, t, from, source.first, source.count, static_cast<int>(token - source.first));
      }
    }
  });
}

// gate·silu(g)·u of one vector.
Vec swiglu(Vec g, Vec u, Vec gate) { return gate * u * g / (splat(1) + exponential(splat(0) - g)); }

Packed matrixOf(const Packed& stack, int64_t e) { return {stack.data + e * stack.strips() * stack.stripBytes(), stack.format, stack.rows, stack.width}; }

// Columns [first, end) of chunks of the hidden layer of one expert. `next` is where this thread will probably go on.
struct Chunks {
  Packed gate, up;
  int64_t first, end;
  const uint8_t* next;
};

// One tile of slots: all of the gate's rows, then all of the up projection's, so that each is read in one go.
void hiddenChunks(const Layer& l, const Order& order, const Chunks& c, Tile tile, const Tokens& x, Tile tokens, const Tokens& hidden) {
  constexpr int64_t mostStrips = 2 * chunksAtATime;
  float gates[mostStrips][tileTokens * stripRows], ups[mostStrips][tileTokens * stripRows];
  const int64_t firstStrip = c.first * chunk / stripRows, strips = least(l.gate.strips(), c.end * chunk / stripRows) - firstStrip;
  for (int64_t s = 0; s < strips; s++) multiplyStrip(c.gate, firstStrip + s, x, tokens, gates[s], s + 1 < strips ? stripOf(c.gate, firstStrip + s + 1) : stripOf(c.up, firstStrip));
  for (int64_t s = 0; s < strips; s++) multiplyStrip(c.up, firstStrip + s, x, tokens, ups[s], s + 1 < strips ? stripOf(c.up, firstStrip + s + 1) : c.next);
  for (int t = 0; t < tile.count; t++) {
    float a[mostStrips * stripRows];
    const Vec weight = splat(l.gates[order.assignment[tile.first + t]]);
    for (int64_t i = 0; i < strips * stripRows; i += lanes) {
      const int64_t at = t * stripRows + i % stripRows;
      store(a + i, swiglu(load(gates[i / stripRows] + at), load(ups[i / stripRows] + at), weight));
    }
    placeNumbers(hidden, tile.first, tile.count, t, c.first * chunk, a, least(strips * stripRows, l.hidden - c.first * chunk));
  }
}

void upProjection(const Layer& l, const Order& order, const Tokens& x, const Tokens& hidden, Pool& pool) {
  const int64_t chunks = divideUp(l.hidden, chunk), wanted = divideUp(fewestJobs, order.usedCount);
  const int64_t chunksOfJob = most(1, least(least(chunksAtATime, chunks / wanted), jobBytes / (4 * l.gate.stripBytes()))), jobs = divideUp(chunks, chunksOfJob);
  const auto chunksOf = [&](int64_t job) {
    const int64_t e = order.used[job / jobs], first = job % jobs * chunksOfJob;
    return Chunks{matrixOf(l.gate, e), matrixOf(l.up, e), first, least(chunks, first + chunksOfJob), nullptr};
  };
  parallel(pool, order.usedCount * jobs, [&](int64_t job, int) {
    const int64_t e = order.used[job / jobs];
    Chunks c = chunksOf(job);
    // Threads take jobs in turns.
    const Chunks later = chunksOf(least(order.usedCount * jobs - 1, job + pool.threads()));
    c.next = stripOf(later.gate, later.first * chunk / stripRows);
    for (int64_t i = 0; i < tilesIn(order.count(e)); i++) {
      const Tile tile = slotTile(order, e, i);
      // One token is every expert's tile.
      hiddenChunks(l, order, c, tile, x, l.tokens == 1 ? Tile{0, 1} : tile, hidden);
    }
  });
}

// y of the only token: a job's rows of one expert after another.
void downProjectionOne(const Layer& l, const Order& order, const Tokens& hidden, Pool& pool) {
  constexpr int64_t mostStrips = 8;
  const int64_t strips = l.down.strips(), stripsOfJob = most(1, least(mostStrips, strips / fewestJobs));
  parallel(pool, divideUp(strips, stripsOfJob), [&](int64_t job, int) {
    const int64_t first = job * stripsOfJob, count = least(stripsOfJob, strips - first);
    const int64_t row = first * stripRows, rows = least(count * stripRows, l.width - row);
    float sums[mostStrips * stripRows] = {};
    if (l.add) memcpy(sums, l.add + row, rows * sizeof(float));
    for (int64_t j = 0; j < l.k; j++) {
      const Packed down = matrixOf(l.down, l.experts[j]);
      const uint8_t* after = j + 1 < l.k ? stripOf(matrixOf(l.down, l.experts[j + 1]), first) : stripOf(matrixOf(l.down, l.experts[0]), least(strips - 1, first + pool.threads() * stripsOfJob));
      for (int64_t s = 0; s < count; s++) {
        float out[stripRows];
        multiplyStrip(down, first + s, hidden, {order.slot[j], 1}, out, s + 1 < count ? stripOf(down, first + s + 1) : after);
        for (int64_t r = 0; r < stripRows; r++) sums[s * stripRows + r] += out[r];
      }
    }
    memcpy(l.y + row, sums, rows * sizeof(float));
  });
}

// outputs (S D) of every slot.
void downProjection(const Layer& l, const Order& order, const Tokens& hidden, float* outputs, Pool& pool) {
  const int64_t strips = l.down.strips(), stripsOfJob = most(1, jobBytes / l.down.stripBytes()), jobs = divideUp(strips, stripsOfJob);
  parallel(pool, order.usedCount * jobs, [&](int64_t job, int) {
    const int64_t e = order.used[job / jobs], first = job % jobs * stripsOfJob;
    const Packed down = matrixOf(l.down, e);
    for (int64_t strip = first; strip < least(strips, first + stripsOfJob); strip++) {
      const int64_t row = strip * stripRows, rows = least(stripRows, l.width - row);
      for (int64_t i = 0; i < tilesIn(order.count(e)); i++) {
        const Tile tile = slotTile(order, e, i);
        float out[tileTokens * stripRows];
        multiplyStrip(down, strip, hidden, tile, out, stripOf(down, least(strips - 1, strip + 1)));
        for (int t = 0; t < tile.count; t++) memcpy(outputs + (tile.first + t) * l.width + row, out + t * stripRows, rows * sizeof(float));
      }
    }
  });
}

void combine(const Layer& l, const Order& order, const float* outputs, Pool& pool) {
  parallelRanges(pool, l.tokens, (l.k + 1) * l.width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      float* MOE_RESTRICT y = l.y + t * l.width;
      if (l.add) memcpy(y, l.add + t * l.width, l.width * sizeof(float));
      else memset(y, 0, l.width * sizeof(float));
      for (int64_t j = 0; j < l.k; j++) {
        const float* MOE_RESTRICT out = outputs + order.slot[t * l.k + j] * l.width;
        for (int64_t i = 0; i < l.width; i++) y[i] += out[i];
      }
    }
  });
}

}  // namespace

Need moePackedForwardNeed(const Args& args) { return {memoryOf(layerOf(args)).total, 0}; }

// y (T D) from x (T D), experts (T K), gate (T K), gateWeight, upWeight (E F D), downWeight (E D F), add? (T D).
void moePackedForward(const Args& args, Pool& pool) {
  const Layer l = layerOf(args);
  const Memory memory = memoryOf(l);
  float* shared = args.work.shared;
  Order order;
  if (!sortSlots(l, shared + memory.order, order, pool)) return;
  const Tokens tokens = {l.gate.format, l.width, l.tokens, shared + memory.tokens}, gathered = {l.gate.format, l.width, l.slots, shared + memory.gathered};
  const Tokens hidden = {l.down.format, l.hidden, l.slots, shared + memory.hidden};
  placeTokens(tokens, l.x, l.tokens, pool);
  if (l.tokens == 1) {
    upProjection(l, order, tokens, hidden, pool);
    return downProjectionOne(l, order, hidden, pool);
  }
  gatherTokens(l, order, tokens, gathered, pool);
  upProjection(l, order, gathered, hidden, pool);
  downProjection(l, order, hidden, shared + memory.outputs, pool);
  combine(l, order, shared + memory.outputs, pool);
}

}  // namespace moe::MOE_KERNELS
