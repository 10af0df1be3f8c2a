// gate[t, j] = probs[t, experts[t, j]], divided by its sum over j when normalise is 1. Reads and writes T·K floats; one thread a token.
// uses: grid
struct Params { T: u32, E: u32, K: u32, normalise: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> gate: array<f32>;
@group(0) @binding(2) var<storage, read_write> probs: array<f32>;
@group(0) @binding(3) var<storage, read_write> experts: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group) * 64u + lane;
  if (t >= p.T) { return; }
  var divisor = 1.0;
  if (p.normalise != 0u) {
    divisor = 0.0;
    for (var j = 0u; j < p.K; j++) { divisor += probs[t * p.E + u32(experts[t * p.K + j])]; }
  }
  for (var j = 0u; j < p.K; j++) { gate[t * p.K + j] = probs[t * p.E + u32(experts[t * p.K + j])] / divisor; }
}
