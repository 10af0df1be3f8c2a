// Turns blockCounts into the assignments of the same expert in earlier blocks; counts and offsets (exclusive prefix sums) of the experts.
// One workgroup: a thread runs over the blocks of its experts, then over its share of the experts. Reads and writes S/256·E integers.
struct Params { E: u32, blocks: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> counts: array<i32>;
@group(0) @binding(2) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(3) var<storage, read_write> blockCounts: array<i32>;
var<workgroup> sums: array<i32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  for (var e = lane; e < p.E; e += 64u) {
    var before = 0;
    for (var b = 0u; b < p.blocks; b++) {
      let own = blockCounts[b * p.E + e];
      blockCounts[b * p.E + e] = before;
      before += own;
    }
    counts[e] = before;
  }
  storageBarrier();
  workgroupBarrier();
  let share = (p.E + 63u) / 64u;
  let first = min(lane * share, p.E);
  let end = min(first + share, p.E);
  var own = 0;
  for (var e = first; e < end; e++) { own += counts[e]; }
  sums[lane] = own;
  workgroupBarrier();
  var at = 0;
  for (var i = 0u; i < lane; i++) { at += sums[i]; }
  for (var e = first; e < end; e++) {
    offsets[e] = at;
    at += counts[e];
  }
  if (lane == 63u) { offsets[p.E] = at; }
}
