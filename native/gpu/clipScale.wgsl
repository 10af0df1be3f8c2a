// scale = (norm, min(1, maxNorm/(norm + 1e-6))), norm = √Σ partials; (norm, −1) when the norm is not finite: then adamwStep does nothing.
// One workgroup; reads M floats. Finiteness is read off the bits, because compilers may take it for granted in arithmetic.
// uses: reduce
struct Params { M: u32, maxNorm: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> scale: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  var own = 0.0;
  for (var i = lane; i < p.M; i += 64u) { own += partials[i]; }
  let norm = sqrt(sumAll(own, lane));
  if (lane != 0u) { return; }
  var factor = 1.0;
  if (p.maxNorm > 0.0) { factor = min(1.0, p.maxNorm / (norm + 1e-6)); }
  if ((bitcast<u32>(norm) & 0x7f800000u) == 0x7f800000u) { factor = -1.0; }
  scale[0] = norm;
  scale[1] = factor;
}
