// experts[t] = the K most probable experts, most probable first; ties go to the lower expert. K·T·E comparisons; reads T·E floats from
// cache K times, writes T·K integers; one thread a token. Round j takes the best of what comes after round j − 1's in that order.
// uses: grid
struct Params { T: u32, E: u32, K: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> experts: array<i32>;
@group(0) @binding(2) var<storage, read_write> probs: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group) * 64u + lane;
  if (t >= p.T) { return; }
  var last = 2.0; // above every probability
  var lastExpert = 0u;
  for (var j = 0u; j < p.K; j++) {
    var best = -1.0;
    var bestExpert = 0u;
    for (var e = 0u; e < p.E; e++) {
      let value = probs[t * p.E + e];
      let isLater = value < last || (value == last && e > lastExpert);
      if (isLater && value > best) { best = value; bestExpert = e; }
    }
    experts[t * p.K + j] = i32(bestExpert);
    last = best;
    lastExpert = bestExpert;
  }
}
