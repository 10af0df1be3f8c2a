// blockCounts[b, e] = assignments to expert e among the 256 of block b: the histogram by blocks. S·E comparisons in workgroup memory.
// uses: grid
struct Params { S: u32, E: u32, blocks: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> blockCounts: array<i32>;
@group(0) @binding(2) var<storage, read_write> experts: array<i32>;
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
  for (var e = lane; e < p.E; e += 64u) {
    var count = 0;
    for (var i = 0u; i < 256u; i++) { count += select(0, 1, chosen[i] == i32(e)); }
    blockCounts[block * p.E + e] = count;
  }
}
