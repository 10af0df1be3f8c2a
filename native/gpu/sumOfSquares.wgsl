// sums[first + g] = Σ x² over the perGroup elements of workgroup g of a window; sumOfSquaresTotal adds the sums.
// 2 flops an element; reads each once; bound by memory.
// uses: grid reduce
struct Params { count: u32, first: u32, perGroup: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = flatGroup(group);
  if (index * p.perGroup >= p.count) { return; }
  var own = 0.0;
  for (var i = index * p.perGroup + lane; i < min((index + 1u) * p.perGroup, p.count); i += 64u) { own += x[i] * x[i]; }
  let total = sumAll(own, lane);
  if (lane == 0u) { sums[p.first + index] = total; }
}
