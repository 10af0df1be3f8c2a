// probs = softmax(logits) over all experts, lse = logsumexp(logits). 5·T·E flops; reads and writes T·E floats; one thread a token.
// uses: grid
struct Params { T: u32, E: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> probs: array<f32>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group) * 64u + lane;
  if (t >= p.T) { return; }
  var most = logits[t * p.E];
  for (var e = 1u; e < p.E; e++) { most = max(most, logits[t * p.E + e]); }
  var sum = 0.0;
  for (var e = 0u; e < p.E; e++) { sum += exp(logits[t * p.E + e] - most); }
  lse[t] = most + log(sum);
  for (var e = 0u; e < p.E; e++) { probs[t * p.E + e] = exp(logits[t * p.E + e] - most) / sum; }
}
