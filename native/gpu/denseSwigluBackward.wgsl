// dH of a = silu(h[:F])·h[F:]. 10·T·F flops; reads 3·T·F, writes 2·T·F floats; bound by memory; one thread an element of a.
// uses: grid
struct Params { T: u32, F: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dH: array<f32>;
@group(0) @binding(2) var<storage, read_write> dA: array<f32>;
@group(0) @binding(3) var<storage, read_write> h: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i >= p.T * p.F) { return; }
  let at = i / p.F * 2u * p.F + i % p.F;
  let g = h[at];
  let sigmoid = 1.0 / (1.0 + exp(-g));
  dH[at] = dA[i] * h[at + p.F] * sigmoid * (1.0 + g * (1.0 - sigmoid));
  dH[at + p.F] = dA[i] * g * sigmoid;
}
