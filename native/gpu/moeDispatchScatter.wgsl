// The permutation: assignment i of block b goes to slot offsets[e] + (those of e in earlier blocks) + (those of e before it in its block),
// so tokens of an expert keep their order. S·128 comparisons in workgroup memory on average; writes 3·S integers.
// uses: grid
struct Params { S: u32, E: u32, K: u32, blocks: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(2) var<storage, read_write> slotToken: array<i32>;
@group(0) @binding(3) var<storage, read_write> slotIndex: array<i32>;
@group(0) @binding(4) var<storage, read_write> tokenSlot: array<i32>;
@group(0) @binding(5) var<storage, read_write> experts: array<i32>;
@group(0) @binding(6) var<storage, read_write> blockCounts: array<i32>;
var<workgroup> chosen: array<i32, 256>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let block = flatGroup(group);
  if (block >= p.blocks) { return; }
  for (var i = lane; i < 256u; i += 64u) {
    chosen[i] = -1;
    if (block * 256u + i < p.S) { chosen[i] = experts[block * 256u + i]; }
  }
  workgroupBarrier();
  for (var i = lane; i < 256u; i += 64u) {
    let at = block * 256u + i;
    if (at >= p.S) { break; }
    let expert = chosen[i];
    var rank = 0;
    for (var j = 0u; j < i; j++) { rank += select(0, 1, chosen[j] == expert); }
    let slot = offsets[expert] + blockCounts[block * p.E + u32(expert)] + rank;
    slotToken[slot] = i32(at / p.K);
    slotIndex[slot] = i32(at);
    tokenSlot[at] = slot;
  }
}
