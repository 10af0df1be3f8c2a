// moePackedForward: a whole MoE layer behind its router on packed weights. Slots are the T·K assignments sorted by expert.
// Two passes over jobs of (expert, rows): gate and up projection with SwiGLU, whose result is rounded for the down
// projection as it is made; then the down projection. One token adds its experts up as it goes; many write every slot's
// output, and a third pass adds each token's, in the order of its experts: the same sums in the same order.
#include "packed.h"

#include "ops.h"

namespace moe::MOE_KERNELS {
namespace {

constexpr int64_t jobBytes = 48 << 10;  // of weights that one job reads
constexpr int64_t chunk = 32;           // columns of the hidden layer made at a time: a block of the down projection

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

// Columns [column, column + chunk) of the hidden layer of expert e for one tile of its slots.
void hiddenChunk(const Layer& l, const Order& order, int64_t e, Tile tile, int64_t column, const Tokens& x, Tile tokens, const Tokens& hidden) {
  float gates[2][tileTokens * stripRows], ups[2][tileTokens * stripRows];
  const Packed gate = {l.gate.data + e * l.gate.strips() * l.gate.stripBytes(), l.gate.format, l.gate.rows, l.gate.width};
  const Packed up = {l.up.data + e * l.up.strips() * l.up.stripBytes(), l.up.format, l.up.rows, l.up.width};
  const int64_t count = least(chunk, l.hidden - column), strips = divideUp(count, stripRows);
  for (int64_t s = 0; s < strips; s++) {
    multiplyStrip(gate, column / stripRows + s, x, tokens, gates[s]);
    multiplyStrip(up, column / stripRows + s, x, tokens, ups[s]);
  }
  for (int t = 0; t < tile.count; t++) {
    float a[chunk];
    const Vec weight = splat(l.gates[order.assignment[tile.first + t]]);
    for (int64_t i = 0; i < strips * stripRows; i += lanes) {
      const int64_t at = t * stripRows + i % stripRows;
      store(a + i, swiglu(load(gates[i / stripRows] + at), load(ups[i / stripRows] + at), weight));
    }
    placeNumbers(hidden, tile.first, tile.count, t, column, a, count);
  }
}

void upProjection(const Layer& l, const Order& order, const Tokens& x, const Tokens& hidden, Pool& pool) {
  const int64_t chunks = divideUp(l.hidden, chunk), chunksOfJob = most(1, jobBytes / (4 * l.gate.stripBytes())), jobs = divideUp(chunks, chunksOfJob);
  parallel(pool, order.usedCount * jobs, [&](int64_t job, int) {
    const int64_t e = order.used[job / jobs], first = job % jobs * chunksOfJob;
    for (int64_t c = first; c < least(chunks, first + chunksOfJob); c++) {
      for (int64_t i = 0; i < tilesIn(order.count(e)); i++) {
        const Tile tile = slotTile(order, e, i);
        // One token is every expert's tile.
        hiddenChunk(l, order, e, tile, c * chunk, x, l.tokens == 1 ? Tile{0, 1} : tile, hidden);
      }
    }
  });
}

Packed downOf(const Layer& l, int64_t e) { return {l.down.data + e * l.down.strips() * l.down.stripBytes(), l.down.format, l.down.rows, l.down.width}; }

// y of the only token.
void downProjectionOne(const Layer& l, const Order& order, const Tokens& hidden, Pool& pool) {
  const int64_t stripsOfJob = most(1, jobBytes / (l.k * l.down.stripBytes()));
  parallel(pool, divideUp(l.down.strips(), stripsOfJob), [&](int64_t job, int) {
    for (int64_t strip = job * stripsOfJob; strip < least(l.down.strips(), (job + 1) * stripsOfJob); strip++) {
      const int64_t row = strip * stripRows, rows = least(stripRows, l.width - row);
      float sums[stripRows] = {};
      if (l.add) memcpy(sums, l.add + row, rows * sizeof(float));
      for (int64_t j = 0; j < l.k; j++) {
        float out[stripRows];
        multiplyStrip(downOf(l, l.experts[j]), strip, hidden, {order.slot[j], 1}, out);
        for (int64_t r = 0; r < stripRows; r++) sums[r] += out[r];
      }
      memcpy(l.y + row, sums, rows * sizeof(float));
    }
  });
}

// outputs (S D) of every slot.
void downProjection(const Layer& l, const Order& order, const Tokens& hidden, float* outputs, Pool& pool) {
  const int64_t strips = l.down.strips(), stripsOfJob = most(1, jobBytes / l.down.stripBytes()), jobs = divideUp(strips, stripsOfJob);
  parallel(pool, order.usedCount * jobs, [&](int64_t job, int) {
    const int64_t e = order.used[job / jobs], first = job % jobs * stripsOfJob;
    const Packed down = downOf(l, e);
    for (int64_t strip = first; strip < least(strips, first + stripsOfJob); strip++) {
      const int64_t row = strip * stripRows, rows = least(stripRows, l.width - row);
      for (int64_t i = 0; i < tilesIn(order.count(e)); i++) {
        const Tile tile = slotTile(order, e, i);
        float out[tileTokens * stripRows];
        multiplyStrip(down, strip, hidden, tile, out);
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
