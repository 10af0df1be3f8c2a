// sum[0] = Σ values·weights. 2·T flops; one workgroup, so made for one number a token, not for activations.
// uses: reduce
struct Params { T: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> sum: array<f32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  var own = 0.0;
  for (var t = lane; t < p.T; t += 64u) { own += values[t] * weights[t]; }
  let total = sumAll(own, lane);
  if (lane == 0u) { sum[0] = total; }
}
