// Copies rows of x into rows of another width: zeros follow what x lacks, what y lacks is left out. Heads whose width is no multiple of
// four are widened for the attention kernels, which load by fours, and their results narrowed again. Bound by memory; one thread an element.
// uses: grid
struct Params { rows: u32, xWidth: u32, yWidth: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = flatGroup(group) * 64u + lane;
  if (at >= p.rows * p.yWidth) { return; }
  let column = at % p.yWidth;
  y[at] = 0.0;
  if (column < p.xWidth) { y[at] = x[at / p.yWidth * p.xWidth + column]; }
}
