// terms[e] = E·f_e·P_e, f = counts/assignments, P_e = mean of probs over the tokens; terms[E] = mean lse². One workgroup a term.
// 2·T·E flops; reads T·E floats. routerLossTotal sums the terms.
// uses: reduce
struct Params { T: u32, E: u32, assignments: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> terms: array<f32>;
@group(0) @binding(2) var<storage, read_write> probs: array<f32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> counts: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let e = group.x;
  var sum = 0.0;
  for (var t = lane; t < p.T; t += 64u) {
    if (e == p.E) { sum += lse[t] * lse[t]; } else { sum += probs[t * p.E + e]; }
  }
  let mean = sumAll(sum, lane) / f32(p.T);
  if (lane != 0u) { return; }
  if (e == p.E) { terms[e] = mean; } else { terms[e] = f32(p.E) * (f32(counts[e]) / f32(p.assignments)) * mean; }
}
