// a = silu(h[:F])·h[F:]. 5·T·F flops; reads 2·T·F, writes T·F floats; bound by memory; one thread an element.
// uses: grid
struct Params { T: u32, F: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> h: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i >= p.T * p.F) { return; }
  let at = i / p.F * 2u * p.F + i % p.F;
  let g = h[at];
  a[i] = g / (1.0 + exp(-g)) * h[at + p.F];
}
