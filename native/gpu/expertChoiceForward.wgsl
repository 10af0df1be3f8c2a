// Expert choice: of every `sequence` tokens each expert takes the `capacity` most probable, of equals the earlier; slots by expert, tokens ascending.
// One workgroup an expert and sequence. The threshold is found bit by bit (probabilities are not negative, so their bits are ordered as they are):
// 34·T·E reads, from cache where a sequence's column fits; then every thread places a run of neighbouring tokens.
// uses: grid reduce
struct Params { T: u32, E: u32, sequence: u32, capacity: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> counts: array<i32>;
@group(0) @binding(2) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(3) var<storage, read_write> slotToken: array<i32>;
@group(0) @binding(4) var<storage, read_write> slotIndex: array<i32>;
@group(0) @binding(5) var<storage, read_write> tokenSlot: array<i32>;
@group(0) @binding(6) var<storage, read_write> probs: array<f32>;
var<workgroup> above: array<u32, 64>;
var<workgroup> equal: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let sequences = p.T / p.sequence;
  let tile = flatGroup(group);
  if (tile >= sequences * p.E) { return; }
  let e = tile % p.E;
  let number = tile / p.E;
  let first = number * p.sequence;
  if (number == 0u && lane == 0u) {
    counts[e] = i32(sequences * p.capacity);
    offsets[e] = i32(e * sequences * p.capacity);
    if (e == 0u) { offsets[p.E] = i32(p.E * sequences * p.capacity); }
  }

  // The largest bits that at least `capacity` tokens reach.
  var threshold = 0u;
  for (var bit = 0u; bit < 31u; bit++) {
    let candidate = threshold | (1u << (30u - bit));
    var count = 0.0;
    for (var i = lane; i < p.sequence; i += 64u) { count += select(0.0, 1.0, bitcast<u32>(probs[(first + i) * p.E + e]) >= candidate); }
    if (sumAll(count, lane) >= f32(p.capacity)) { threshold = candidate; }
  }

  let share = (p.sequence + 63u) / 64u;
  let begin = min(lane * share, p.sequence);
  let end = min(begin + share, p.sequence);
  var ownAbove = 0u;
  var ownEqual = 0u;
  for (var i = begin; i < end; i++) {
    let bits = bitcast<u32>(probs[(first + i) * p.E + e]);
    ownAbove += select(0u, 1u, bits > threshold);
    ownEqual += select(0u, 1u, bits == threshold);
  }
  above[lane] = ownAbove;
  equal[lane] = ownEqual;
  workgroupBarrier();
  var taken = 0u;
  var ties = p.capacity;
  for (var other = 0u; other < 64u; other++) { ties -= min(ties, above[other]); }
  for (var other = 0u; other < lane; other++) {
    let tied = min(ties, equal[other]);
    taken += above[other] + tied;
    ties -= tied;
  }
  var slot = (e * sequences + number) * p.capacity + taken;
  for (var i = begin; i < end; i++) {
    let index = (first + i) * p.E + e;
    let bits = bitcast<u32>(probs[index]);
    let isTie = bits == threshold && ties > 0u;
    if (isTie) { ties -= 1u; }
    if (isTie || bits > threshold) {
      tokenSlot[index] = i32(slot);
      slotToken[slot] = i32(first + i);
      slotIndex[slot] = i32(index);
      slot += 1u;
    } else {
      tokenSlot[index] = -1;
    }
  }
}
