// Merges the parts of attentionCachedForward: o = Σ exp(m − max m)·o of the part / Σ exp(m − max m)·l, parts in order.
// 2·C flops and C floats read per part, head and token; one thread per 4 columns.
// uses: grid
struct Params { T: u32, H: u32, C: u32, P: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> o: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> partO: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> parts: array<vec2f>;
@group(0) @binding(4) var<storage, read_write> positions: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = flatGroup(group) * 64u + lane;
  let fours = p.C / 4u;
  let rows = p.T * p.H;
  if (at >= rows * fours) { return; }
  let row = at / fours;
  let visible = min(u32(max(positions[row / p.H] + 1, 0)), p.P);
  let count = (visible + 255u) / 256u;
  var most = -1e30;
  for (var i = 0u; i < count; i++) { most = max(most, parts[i * rows + row].x); }
  var sum = 0.0;
  var value = vec4f();
  for (var i = 0u; i < count; i++) {
    let own = parts[i * rows + row];
    let weight = exp(own.x - most);
    sum = fma(weight, own.y, sum);
    value = fma(vec4f(weight), partO[i * rows * fours + at], value);
  }
  o[at] = value / max(sum, 1e-30);
}
