// losses[layer] = (Σ_e terms[e], terms[E]): load balance and router z of one layer. One workgroup.
// uses: reduce
struct Params { E: u32, layer: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> losses: array<f32>;
@group(0) @binding(2) var<storage, read_write> terms: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var e = lane; e < p.E; e += 64u) { sum += terms[e]; }
  let total = sumAll(sum, lane);
  if (lane != 0u) { return; }
  losses[2u * p.layer] = total;
  losses[2u * p.layer + 1u] = terms[p.E];
}
