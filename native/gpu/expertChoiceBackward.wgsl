// dLogits of the router under expert choice: dProbs = dGate where the expert has taken the token; dLogits = probs·(dProbs − Σ dProbs·probs +
// 2·routerZScale·lse/T). 6·T·E flops; reads 5·T·E, writes T·E; one thread a token.
// uses: grid
struct Params { T: u32, E: u32, routerZScale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dLogits: array<f32>;
@group(0) @binding(2) var<storage, read_write> dGate: array<f32>;
@group(0) @binding(3) var<storage, read_write> probs: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> tokenSlot: array<i32>;

fn dProb(i: u32) -> f32 { return select(0.0, dGate[i], tokenSlot[i] >= 0); }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group) * 64u + lane;
  if (t >= p.T) { return; }
  var mean = 0.0;
  for (var e = 0u; e < p.E; e++) { mean += dProb(t * p.E + e) * probs[t * p.E + e]; }
  let z = p.routerZScale * 2.0 * lse[t] / f32(p.T);
  for (var e = 0u; e < p.E; e++) { dLogits[t * p.E + e] = probs[t * p.E + e] * (dProb(t * p.E + e) - mean + z); }
}
