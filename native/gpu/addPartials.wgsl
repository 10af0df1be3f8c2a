// sum[i] += Σ_b partials[b, i], b ascending. The second level of every sum that was split over workgroups.
// `count` flops a part; reads (parts + 1)·count, writes count floats; bound by memory.
// uses: grid
struct Params { count: u32, parts: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> sum: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatGroup(group) * 64u + lane;
  if (i >= p.count) { return; }
  var total = 0.0;
  for (var b = 0u; b < p.parts; b++) { total += partials[b * p.count + i]; }
  sum[i] += total;
}
