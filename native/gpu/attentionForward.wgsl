// Flash attention: o = softmax(q·kᵀ·scale)·v per head and lse = logsumexp of the scores, with a running maximum and sum (online softmax).
// A query sees the keys of its sequence up to itself, or with `hasPositions` the rows 0..positions[t] of a cache; none give 0.
// 4·C flops per query, head and visible key (2·T·sequence·H·C causal); reads k and v once per 32 queries, q once per 64 keys.
// One workgroup per 32 queries, head and 128 columns of v (wider heads compute their scores again), longest first. 13 KiB of workgroup
// memory and about 130 registers a thread (64 sums, 32 scores): 7 workgroups of two warps stay resident on a multiprocessor.
// uses: attention
struct Params { T: u32, H: u32, G: u32, C: u32, scale: f32, sequence: u32, hasPositions: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> o: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> q: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> k: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> positions: array<i32>;
const unseen = -1e30; // below every score; hidden scores lie below it in turn, so that their weight is 0
var<workgroup> blockKeys: vec2u;
var<workgroup> shares: array<vec4f, 64>; // what each thread knows of its rows

// First key that query t sees, and the end of its keys.
fn keysOf(t: u32) -> vec2u {
  if (t >= p.T) { return vec2u(); }
  if (p.hasPositions != 0u) { return vec2u(0u, u32(max(positions[t] + 1, 0))); }
  return vec2u(t - t % p.sequence, t + 1u);
}

fn masked(scores: mat4x4f, key: u32, first: vec4u, end: vec4u) -> mat4x4f {
  var result = scores;
  for (var i = 0u; i < 4u; i++) {
    let at = vec4u(key + 8u * i);
    result[i] = select(vec4f(2.0 * unseen), scores[i] * p.scale, (at >= first) & (at < end));
  }
  return result;
}
fn most(m: mat4x4f) -> vec4f { return max(max(m[0], m[1]), max(m[2], m[3])); }
fn total(m: mat4x4f) -> vec4f { return (m[0] + m[1]) + (m[2] + m[3]); }
fn expLess(m: mat4x4f, by: vec4f) -> mat4x4f { return mat4x4f(exp(m[0] - by), exp(m[1] - by), exp(m[2] - by), exp(m[3] - by)); }
fn scaled(m: mat4x4f, by: vec4f) -> mat4x4f { return mat4x4f(m[0] * by, m[1] * by, m[2] * by, m[3] * by); }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t0 = (groups.x - 1u - group.x) * blockRows;
  let h = group.y;
  let fours = p.C / 4u;
  let column = group.z * 32u;
  let keyHead = h * p.G / p.H * fours;
  let queries = Rows(t0, min(t0 + blockRows, p.T), p.H * fours, h * fours);
  let row = lane / 8u * 4u;
  let x = lane % 8u;
  let seen = array(keysOf(t0 + row), keysOf(t0 + row + 1u), keysOf(t0 + row + 2u), keysOf(t0 + row + 3u));
  let first = vec4u(seen[0].x, seen[1].x, seen[2].x, seen[3].x);
  let end = vec4u(seen[0].y, seen[1].y, seen[2].y, seen[3].y);
  if (lane == 0u) {
    blockKeys = keysOf(t0);
    for (var t = t0 + 1u; t < queries.end; t++) { blockKeys.y = max(blockKeys.y, keysOf(t).y); }
  }
  let range = workgroupUniformLoad(&blockKeys);

  var maximum = vec4f(unseen);
  var sum = vec4f();
  var sums = array<Block, 2>(); // by 64 columns
  for (var s0 = range.x; s0 < range.y; s0 += blockOthers) {
    let keys = Rows(s0, min(s0 + blockOthers, range.y), p.G * fours, keyHead);
    var weights = products(&q, queries, &k, keys, lane);
    weights = Block(masked(weights.low, s0 + x, first, end), masked(weights.high, s0 + x + 32u, first, end));
    shares[lane] = max(most(weights.low), most(weights.high));
    workgroupBarrier();
    var raised = maximum;
    for (var i = 0u; i < 8u; i++) { raised = max(raised, shares[lane - x + i]); }
    weights = Block(expLess(weights.low, raised), expLess(weights.high, raised));
    let shrink = exp(maximum - raised);
    maximum = raised;
    sum = sum * shrink + total(weights.low) + total(weights.high);
    storeWeights(weights, lane);
    for (var i = 0u; i < 2u && column + 16u * i < fours; i++) {
      sums[i] = addWeighted(Block(scaled(sums[i].low, shrink), scaled(sums[i].high, shrink)), &v, keys, column + 16u * i, lane);
    }
  }
  workgroupBarrier();
  shares[lane] = sum;
  workgroupBarrier();
  sum = vec4f();
  for (var i = 0u; i < 8u; i++) { sum += shares[lane - x + i]; }
  let scale = select(vec4f(), 1.0 / sum, sum > vec4f());
  for (var i = 0u; i < 2u; i++) { storeRows(&o, queries, column + 16u * i, sums[i], scale, lane); }
  if (x < 4u && group.z == 0u && t0 + row + x < p.T) { lse[(t0 + row + x) * p.H + h] = maximum[x] + log(sum[x]); }
}
