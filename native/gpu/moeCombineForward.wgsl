// y[t] = add[t] + Σ_j slots[tokenSlot[t, j]], j ascending; a negative slot adds nothing. T·K·D flops; reads T·K·D, writes T·D floats; bound by memory; one thread an element.
// uses: grid
struct Params { T: u32, D: u32, K: u32, hasAdd: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> slots: array<f32>;
@group(0) @binding(3) var<storage, read_write> tokenSlot: array<i32>;
@group(0) @binding(4) var<storage, read_write> add: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i >= p.T * p.D) { return; }
  let t = i / p.D;
  var sum = 0.0;
  if (p.hasAdd != 0u) { sum = add[i]; }
  for (var j = 0u; j < p.K; j++) {
    let slot = tokenSlot[t * p.K + j];
    if (slot >= 0) { sum += slots[u32(slot) * p.D + i % p.D]; }
  }
  y[i] = sum;
}
