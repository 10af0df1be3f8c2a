// dLogits of the router: through the gates, the load-balancing loss and the z-loss (reference §1.4, §1.6, §1.7).
// dProbs[e] = loadBalanceScale·E·counts[e]/(T·K)/T + what the gates of e bring; dLogits = probs·(dProbs − Σ dProbs·probs + 2·routerZScale·lse/T).
// About (6 + 2K)·T·E flops; reads 2·T·E, writes T·E floats; one thread a token.
// uses: grid
struct Params { T: u32, E: u32, K: u32, normalise: u32, loadBalanceScale: f32, routerZScale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dLogits: array<f32>;
@group(0) @binding(2) var<storage, read_write> dGate: array<f32>;
@group(0) @binding(3) var<storage, read_write> probs: array<f32>;
@group(0) @binding(4) var<storage, read_write> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> experts: array<i32>;
@group(0) @binding(6) var<storage, read_write> gate: array<f32>;
@group(0) @binding(7) var<storage, read_write> counts: array<i32>;

fn balance(e: u32) -> f32 { return p.loadBalanceScale * f32(p.E) * f32(counts[e]) / f32(p.T * p.K) / f32(p.T); }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group) * 64u + lane;
  if (t >= p.T) { return; }
  // Of a normalised gate, each of its probabilities moves all: d gate_j/d p_i = (δ_ij − gate_j)/Σp.
  var divisor = 1.0;
  var dot = 0.0;
  if (p.normalise != 0u) {
    divisor = 0.0;
    for (var j = 0u; j < p.K; j++) {
      divisor += probs[t * p.E + u32(experts[t * p.K + j])];
      dot += dGate[t * p.K + j] * gate[t * p.K + j];
    }
  }
  var mean = 0.0;
  for (var e = 0u; e < p.E; e++) { mean += balance(e) * probs[t * p.E + e]; }
  for (var j = 0u; j < p.K; j++) { mean += (dGate[t * p.K + j] - dot) / divisor * probs[t * p.E + u32(experts[t * p.K + j])]; }
  let z = p.routerZScale * 2.0 * lse[t] / f32(p.T);
  for (var e = 0u; e < p.E; e++) {
    var dProb = balance(e);
    for (var j = 0u; j < p.K; j++) { if (u32(experts[t * p.K + j]) == e) { dProb += (dGate[t * p.K + j] - dot) / divisor; } }
    dLogits[t * p.E + e] = probs[t * p.E + e] * (dProb - mean + z);
  }
}
