// partials[b, d] = Σ dY·x·rstd over the 64 tokens of block b; addPartials sums the blocks into dWeight.
// 3·T·D flops; reads 2·T·D floats; bound by memory. One thread a column, one workgroup 64 columns of a block.
struct Params { T: u32, D: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> dY: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let d = group.x * 64u + lane;
  if (d >= p.D) { return; }
  var sum = 0.0;
  for (var t = group.y * 64u; t < min(group.y * 64u + 64u, p.T); t++) { sum += dY[t * p.D + d] * x[t * p.D + d] * rstd[t]; }
  partials[group.y * p.D + d] = sum;
}
