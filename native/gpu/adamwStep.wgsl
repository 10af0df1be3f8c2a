// AdamW with decoupled weight decay (arXiv 1711.05101) on grad·scale[1]; leaves grad zero. hyper = (rate, 1 − beta1^t, 1 − beta2^t).
// 15 flops an element; reads and writes four floats each; bound by memory: 28 bytes read and written a parameter, plus 4 for the zero.
// uses: grid
struct Params { count: u32, beta1: f32, beta2: f32, eps: f32, weightDecay: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> param: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad: array<f32>;
@group(0) @binding(5) var<storage, read_write> scale: array<f32>;
@group(0) @binding(6) var<storage, read_write> hyper: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i >= p.count || scale[1] < 0.0) { return; }
  let g = grad[i] * scale[1];
  let m1 = p.beta1 * m[i] + (1.0 - p.beta1) * g;
  let v1 = p.beta2 * v[i] + (1.0 - p.beta2) * g * g;
  m[i] = m1;
  v[i] = v1;
  param[i] = param[i] * (1.0 - hyper[0] * p.weightDecay) - hyper[0] / hyper[1] * m1 / (sqrt(v1) / sqrt(hyper[2]) + p.eps);
  grad[i] = 0.0;
}
