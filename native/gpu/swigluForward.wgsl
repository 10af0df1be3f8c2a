// a = gate·silu(h[:F])·h[F:], gate of the slot. 6·S·F flops; reads 2·S·F, writes S·F floats; bound by memory; one thread an element.
// uses: grid
struct Params { S: u32, F: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> h: array<f32>;
@group(0) @binding(3) var<storage, read_write> gate: array<f32>;
@group(0) @binding(4) var<storage, read_write> slotIndex: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i >= p.S * p.F) { return; }
  let s = i / p.F;
  let g = h[s * 2u * p.F + i % p.F];
  a[i] = gate[slotIndex[s]] * g / (1.0 + exp(-g)) * h[s * 2u * p.F + p.F + i % p.F];
}
