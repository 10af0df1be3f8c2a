// dQ = scale·Σ_s P·(dO·vᵀ − delta)·k, probabilities P = exp(q·kᵀ·scale − lse) computed again from the forward's lse.
// 6·C flops per query, head and visible key; reads k twice and v once per 32 queries, q and dO once per 64 keys; keys in order.
// One workgroup per 32 queries, head and 128 columns (wider heads compute their scores again), longest first. 12 KiB of workgroup memory
// and about 160 registers a thread (64 sums, 64 scores): 6 workgroups of two warps stay resident on a multiprocessor.
// uses: attention
struct Params { T: u32, H: u32, G: u32, C: u32, scale: f32, sequence: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dQ: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> dO: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> q: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> k: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> lse: array<f32>;
@group(0) @binding(7) var<storage, read_write> delta: array<f32>;

// Gradients of scores of 4 queries t with keys key, key+8, .. from scores and dO·vᵀ.
fn scoreGradients(scores: mat4x4f, dP: mat4x4f, key: u32, t: vec4u, rowLse: vec4f, rowDelta: vec4f) -> mat4x4f {
  var result = mat4x4f();
  for (var i = 0u; i < 4u; i++) {
    let at = vec4u(key + 8u * i);
    let probability = exp(scores[i] * p.scale - rowLse);
    result[i] = select(vec4f(), probability * (dP[i] - rowDelta), (at >= t - t % p.sequence) & (at <= t));
  }
  return result;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t0 = (groups.x - 1u - group.x) * blockRows;
  let h = group.y;
  let fours = p.C / 4u;
  let column = group.z * 32u;
  let keyHead = h * p.G / p.H * fours;
  let queries = Rows(t0, min(t0 + blockRows, p.T), p.H * fours, h * fours);
  let t = vec4u(t0 + lane / 8u * 4u) + vec4u(0u, 1u, 2u, 3u);
  let at = min(t, vec4u(p.T - 1u)) * p.H + h;
  let rowLse = vec4f(lse[at.x], lse[at.y], lse[at.z], lse[at.w]);
  let rowDelta = vec4f(delta[at.x], delta[at.y], delta[at.z], delta[at.w]);
  var sums = array<Block, 2>(); // by 64 columns
  for (var s0 = t0 - t0 % p.sequence; s0 < queries.end; s0 += blockOthers) {
    let keys = Rows(s0, min(s0 + blockOthers, queries.end), p.G * fours, keyHead);
    let scores = products(&q, queries, &k, keys, lane);
    let dP = products(&dO, queries, &v, keys, lane);
    let key = s0 + lane % 8u;
    workgroupBarrier();
    storeWeights(Block(scoreGradients(scores.low, dP.low, key, t, rowLse, rowDelta), scoreGradients(scores.high, dP.high, key + 32u, t, rowLse, rowDelta)), lane);
    for (var i = 0u; i < 2u && column + 16u * i < fours; i++) { sums[i] = addWeighted(sums[i], &k, keys, column + 16u * i, lane); }
  }
  for (var i = 0u; i < 2u; i++) { storeRows(&dQ, queries, column + 16u * i, sums[i], vec4f(p.scale), lane); }
}
