// Turns a chunk's logits into their gradients, in place: dLoss·(softmax − [v = target]); tokens without a target get none.
// 3·T·V flops; reads and writes T·V floats; bound by memory. dX and dWeight follow as matrix products over the chunk.
// uses: grid
struct Params { T: u32, V: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> targets: array<i32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> dLoss: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i >= p.T * p.V) { return; }
  let t = i / p.V;
  let correct = targets[t];
  if (correct < 0) { logits[i] = 0.0; return; }
  logits[i] = dLoss[t] * (exp(logits[i] - lse[t]) - select(0.0, 1.0, u32(correct) == i % p.V));
}
