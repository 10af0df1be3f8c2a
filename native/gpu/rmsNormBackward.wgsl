// dX = add + rstd·(dY·w − x·rstd²·mean(dY·w·x)). 8·T·D flops; reads 6·T·D (half from cache), writes T·D floats; bound by memory.
// One workgroup of 64 threads a row.
// uses: grid reduce
struct Params { T: u32, D: u32, hasAdd: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dX: array<f32>;
@group(0) @binding(2) var<storage, read_write> dY: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> weight: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(6) var<storage, read_write> add: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group);
  if (t >= p.T) { return; }
  var dot = 0.0;
  for (var d = lane; d < p.D; d += 64u) { let i = t * p.D + d; dot += dY[i] * weight[d] * x[i]; }
  let scale = rstd[t];
  let mean = sumAll(dot, lane) / f32(p.D) * scale * scale;
  for (var d = lane; d < p.D; d += 64u) {
    let i = t * p.D + d;
    var value = scale * (dY[i] * weight[d] - x[i] * mean);
    if (p.hasAdd != 0u) { value += add[i]; }
    dX[i] = value;
  }
}
