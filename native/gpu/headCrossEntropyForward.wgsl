// loss = lse − logit of the target, over a chunk of tokens whose logits linearForward has just written; a negative target gives loss 0.
// 4·T·V flops; reads 2·T·V floats (the second from cache): small beside the product's 2·T·V·D flops. One workgroup of 64 threads a token.
// uses: grid reduce
struct Params { T: u32, V: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> targets: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = flatGroup(group);
  if (t >= p.T) { return; }
  var own = logits[t * p.V];
  for (var v = lane; v < p.V; v += 64u) { own = max(own, logits[t * p.V + v]); }
  let most = maxAll(own, lane);
  var sum = 0.0;
  for (var v = lane; v < p.V; v += 64u) { sum += exp(logits[t * p.V + v] - most); }
  let total = most + log(sumAll(sum, lane));
  if (lane != 0u) { return; }
  lse[t] = total;
  let correct = targets[t];
  if (correct < 0) { loss[t] = 0.0; } else { loss[t] = total - logits[t * p.V + u32(correct)]; }
}
