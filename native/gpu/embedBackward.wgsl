// dWeight[ids[t]] += dX[t] in token order, without atomics: the first token of an id sums over all tokens of that id.
// Reads T ids a workgroup and every row of dX once (T·D flops); one workgroup a token, most end after the search for an earlier twin.
// uses: grid
struct Params { T: u32, D: u32, vFrom: u32, vCount: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dWeight: array<f32>;
@group(0) @binding(2) var<storage, read_write> ids: array<i32>;
@group(0) @binding(3) var<storage, read_write> dX: array<f32>;
var<workgroup> hasEarlier: atomic<u32>;
var<workgroup> later: array<i32, 64>;
var<workgroup> isFirst: u32;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group);
  if (t >= p.T) { return; }
  let id = ids[t];
  for (var other = lane; other < t; other += 64u) {
    if (ids[other] == id) { atomicMax(&hasEarlier, 1u); break; }
  }
  workgroupBarrier();
  let row = u32(id) - p.vFrom;
  if (lane == 0u) { isFirst = u32(atomicLoad(&hasEarlier) == 0u && row < p.vCount); }
  if (workgroupUniformLoad(&isFirst) == 0u) { return; }
  // 64 tokens at a time: which of them have the id is seen by all, and every thread adds its own columns.
  for (var base = t; base < p.T; base += 64u) {
    workgroupBarrier();
    later[lane] = -1;
    if (base + lane < p.T) { later[lane] = ids[base + lane]; }
    workgroupBarrier();
    for (var i = 0u; i < 64u; i++) {
      if (later[i] != id) { continue; }
      for (var d = lane; d < p.D; d += 64u) { dWeight[row * p.D + d] += dX[(base + i) * p.D + d]; }
    }
  }
}
