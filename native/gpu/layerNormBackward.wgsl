// dX = add + rstd·(dY − mean(dY) − n·mean(dY·n)), n = (x − mean(x))·rstd. 9·T·D flops; reads 3·T·D floats of memory (the rest from cache),
// writes T·D. One workgroup of 64 threads a row.
// uses: grid reduce
struct Params { T: u32, D: u32, hasAdd: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dX: array<f32>;
@group(0) @binding(2) var<storage, read_write> dY: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(5) var<storage, read_write> add: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group);
  if (t >= p.T) { return; }
  var sum = 0.0;
  var sumD = 0.0;
  for (var d = lane; d < p.D; d += 64u) { sum += x[t * p.D + d]; sumD += dY[t * p.D + d]; }
  let mean = sumAll(sum, lane) / f32(p.D);
  let meanD = sumAll(sumD, lane) / f32(p.D);
  let scale = rstd[t];
  var product = 0.0;
  for (var d = lane; d < p.D; d += 64u) { product += dY[t * p.D + d] * ((x[t * p.D + d] - mean) * scale); }
  let along = sumAll(product, lane) / f32(p.D);
  for (var d = lane; d < p.D; d += 64u) {
    let i = t * p.D + d;
    var value = scale * (dY[i] - meanD - (x[i] - mean) * scale * along);
    if (p.hasAdd != 0u) { value += add[i]; }
    dX[i] = value;
  }
}
