// Writes k[t], v[t] into cache row positions[t]; a negative position writes nothing. Copies 2·T·W floats; one thread an element.
// uses: grid
struct Params { T: u32, W: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> cacheK: array<f32>;
@group(0) @binding(2) var<storage, read_write> cacheV: array<f32>;
@group(0) @binding(3) var<storage, read_write> k: array<f32>;
@group(0) @binding(4) var<storage, read_write> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> positions: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i >= p.T * p.W) { return; }
  let position = positions[i / p.W];
  if (position < 0) { return; }
  let at = u32(position) * p.W + i % p.W;
  cacheK[at] = k[i];
  cacheV[at] = v[i];
}
