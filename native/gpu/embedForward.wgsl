// x[t] = weight[ids[t]], for the ids in a window of the vocabulary. Reads and writes T·D floats; bound by memory; one thread an element.
// uses: grid
struct Params { T: u32, D: u32, vFrom: u32, vCount: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> ids: array<i32>;
@group(0) @binding(3) var<storage, read_write> weight: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i >= p.T * p.D) { return; }
  let row = u32(ids[i / p.D]) - p.vFrom;
  if (row < p.vCount) { x[i] = weight[row * p.D + i % p.D]; }
}
