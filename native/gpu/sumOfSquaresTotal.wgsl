// partials[index] = Σ sums, of which there are `count`. One workgroup.
// uses: reduce
struct Params { count: u32, index: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  var own = 0.0;
  for (var i = lane; i < p.count; i += 64u) { own += sums[i]; }
  let total = sumAll(own, lane);
  if (lane == 0u) { partials[p.index] = total; }
}
