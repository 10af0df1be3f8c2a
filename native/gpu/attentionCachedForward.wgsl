// Attention of single tokens against a cache (flash decoding): 256 cache rows of one token and head, merged by attentionCachedMerge.
// o = Σ_s exp(score − m)·v of its rows, with m their largest score and l the sum of weights in `parts`; where one part is all, o is divided by l.
// 4·C flops per row; reads k and v once; bound by memory. One workgroup per part, head and token, one thread a score, then one per 4 columns
// and every so many rows; parts past the token's position end at once. 2.3 KiB of workgroup memory.
// uses: reduce
struct Params { T: u32, H: u32, G: u32, C: u32, P: u32, scale: f32, parts: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> o: array<vec4f>; // [parts, T, H, C]
@group(0) @binding(2) var<storage, read_write> parts: array<vec2f>; // m and l [parts, T, H]
@group(0) @binding(3) var<storage, read_write> q: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> cacheK: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> cacheV: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> positions: array<i32>;
const partRows = 256u;
var<workgroup> visible: u32;
var<workgroup> weights: array<f32, partRows>;
var<workgroup> slices: array<vec4f, 64>;

fn score(query: u32, row: u32) -> f32 {
  var sum = vec4f();
  for (var four = 0u; four < p.C / 4u; four++) { sum = fma(q[query + four], cacheK[row + four], sum); }
  return ((sum.x + sum.y) + (sum.z + sum.w)) * p.scale;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = group.z;
  let h = group.y;
  let fours = p.C / 4u;
  let start = group.x * partRows;
  if (lane == 0u) { visible = min(u32(max(positions[t] + 1, 0)), p.P); }
  let end = min(workgroupUniformLoad(&visible), start + partRows);
  if (start >= end && group.x > 0u) { return; }
  let base = h * p.G / p.H * fours;
  var most = -1e30;
  for (var s = start + lane; s < end; s += 64u) {
    let value = score((t * p.H + h) * fours, s * p.G * fours + base);
    weights[s - start] = value;
    most = max(most, value);
  }
  most = maxAll(most, lane);
  var sum = 0.0;
  for (var s = start + lane; s < end; s += 64u) {
    let weight = exp(weights[s - start] - most);
    weights[s - start] = weight;
    sum += weight;
  }
  sum = sumAll(sum, lane);

  let at = (group.x * p.T + t) * p.H + h;
  let scale = select(1.0, 1.0 / max(sum, 1e-30), p.parts == 1u);
  let across = min(fours, 64u);
  let count = 64u / across;
  let slice = lane / across;
  for (var first = 0u; first < fours; first += 64u) {
    let four = first + lane % across;
    var value = vec4f();
    if (slice < count && four < fours) {
      for (var s = start + slice; s < end; s += count) { value = fma(vec4f(weights[s - start]), cacheV[s * p.G * fours + base + four], value); }
    }
    workgroupBarrier();
    slices[lane] = value;
    workgroupBarrier();
    if (slice == 0u && four < fours) {
      for (var i = 1u; i < count; i++) { value += slices[i * across + lane]; }
      o[at * fours + four] = value * scale;
    }
  }
  if (lane == 0u) { parts[at] = vec2f(most, sum); }
}
