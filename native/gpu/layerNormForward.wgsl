// y = (x − mean(x))·rstd, rstd = (var(x) + eps)^-½. 5·T·D flops; reads 3·T·D (two of them from cache), writes T·D floats; bound by memory.
// One workgroup of 64 threads a row; neighbouring threads take neighbouring columns.
// uses: grid reduce
struct Params { T: u32, D: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group);
  if (t >= p.T) { return; }
  var sum = 0.0;
  for (var d = lane; d < p.D; d += 64u) { sum += x[t * p.D + d]; }
  let mean = sumAll(sum, lane) / f32(p.D);
  var square = 0.0;
  for (var d = lane; d < p.D; d += 64u) { let value = x[t * p.D + d] - mean; square += value * value; }
  let scale = 1.0 / sqrt(sumAll(square, lane) / f32(p.D) + p.eps);
  if (lane == 0u) { rstd[t] = scale; }
  for (var d = lane; d < p.D; d += 64u) { y[t * p.D + d] = (x[t * p.D + d] - mean) * scale; }
}
