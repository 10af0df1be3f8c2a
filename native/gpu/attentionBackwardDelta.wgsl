// delta = Σ_c dO·o of every token and head: what the gradient of a softmax subtracts from each of its own.
// 2·T·H·C flops; reads 2·T·H·C floats; bound by memory; one thread a row of C.
// uses: grid
struct Params { T: u32, H: u32, C: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> delta: array<f32>;
@group(0) @binding(2) var<storage, read_write> dO: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> o: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = flatGroup(group) * 64u + lane;
  if (row >= p.T * p.H) { return; }
  let fours = p.C / 4u;
  var sum = vec4f();
  for (var four = row * fours; four < (row + 1u) * fours; four++) { sum = fma(dO[four], o[four], sum); }
  delta[row] = (sum.x + sum.y) + (sum.z + sum.w);
}
