// y[r] = x[rows[r]]. Reads and writes R·D floats; bound by memory; one thread an element.
// uses: grid
struct Params { R: u32, D: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> rows: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i < p.R * p.D) { y[i] = x[u32(rows[i / p.D]) * p.D + i % p.D]; }
}
