// dH and dGate = Σ_F dA·silu(h[:F])·h[F:] of swigluForward. 12·S·F flops; reads 3·S·F, writes 2·S·F floats; bound by memory.
// One workgroup of 64 threads a slot, because of the sum.
// uses: grid reduce
struct Params { S: u32, F: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dH: array<f32>;
@group(0) @binding(2) var<storage, read_write> dGate: array<f32>;
@group(0) @binding(3) var<storage, read_write> dA: array<f32>;
@group(0) @binding(4) var<storage, read_write> h: array<f32>;
@group(0) @binding(5) var<storage, read_write> gate: array<f32>;
@group(0) @binding(6) var<storage, read_write> slotIndex: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let s = flatGroup(group);
  if (s >= p.S) { return; }
  let index = slotIndex[s];
  let scale = gate[index];
  var dot = 0.0;
  for (var f = lane; f < p.F; f += 64u) {
    let g = h[s * 2u * p.F + f];
    let u = h[s * 2u * p.F + p.F + f];
    let d = dA[s * p.F + f];
    let sigmoid = 1.0 / (1.0 + exp(-g));
    dot += d * g * sigmoid * u;
    dH[s * 2u * p.F + f] = d * scale * u * sigmoid * (1.0 + g * (1.0 - sigmoid));
    dH[s * 2u * p.F + p.F + f] = d * scale * g * sigmoid;
  }
  let total = sumAll(dot, lane);
  if (lane == 0u) { dGate[index] = total; }
}
