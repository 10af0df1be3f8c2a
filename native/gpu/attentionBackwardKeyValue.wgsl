// dV = Σ_t P·dO and dK = scale·Σ_t P·(dO·vᵀ − delta)·q, over the query heads of a key-value head and their tokens, in order.
// 8·C flops per query, head and visible key; reads q and dO twice per 32 keys, k and v once per 64 queries and head.
// One workgroup per 32 keys, key-value head and 128 columns (wider heads compute their scores again), longest first. 12 KiB of workgroup
// memory; 128 sums and 64 scores a thread, of which 64 to 128 rest at a time and may be spilled: they are touched once per 64 queries.
// About 5 workgroups of two warps stay resident on a multiprocessor.
// uses: attention
struct Params { T: u32, H: u32, G: u32, C: u32, scale: f32, sequence: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dK: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> dV: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> dO: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> q: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> k: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;
@group(0) @binding(8) var<storage, read_write> delta: array<f32>;

// Probabilities of 4 keys s for queries t, t+8, .. of head h from their scores.
fn probabilities(scores: mat4x4f, t: u32, h: u32, s: vec4u, end: vec4u) -> mat4x4f {
  var result = mat4x4f();
  for (var i = 0u; i < 4u; i++) {
    let query = t + 8u * i;
    let probability = exp(scores[i] * p.scale - lse[min(query, p.T - 1u) * p.H + h]);
    result[i] = select(vec4f(), probability, (s <= vec4u(query)) & (vec4u(query) < end));
  }
  return result;
}

fn scoreGradients(weights: mat4x4f, dP: mat4x4f, t: u32, h: u32) -> mat4x4f {
  var result = mat4x4f();
  for (var i = 0u; i < 4u; i++) { result[i] = weights[i] * (dP[i] - delta[min(t + 8u * i, p.T - 1u) * p.H + h]); }
  return result;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let s0 = group.x * blockRows;
  let g = group.y;
  let fours = p.C / 4u;
  let column = group.z * 32u;
  let keys = Rows(s0, min(s0 + blockRows, p.T), p.G * fours, g * fours);
  let s = vec4u(s0 + lane / 8u * 4u) + vec4u(0u, 1u, 2u, 3u);
  let end = min(s - s % p.sequence + p.sequence, vec4u(p.T)); // of the tokens that see key s
  let last = keys.end - 1u;
  let tEnd = min(last - last % p.sequence + p.sequence, p.T);
  var sumsV = array<Block, 2>(); // by 64 columns
  var sumsK = array<Block, 2>();
  for (var h = (g * p.H + p.G - 1u) / p.G; h * p.G / p.H == g; h++) {
    for (var t0 = s0; t0 < tEnd; t0 += blockOthers) {
      let queries = Rows(t0, min(t0 + blockOthers, tEnd), p.H * fours, h * fours);
      let t = t0 + lane % 8u;
      let scores = products(&k, keys, &q, queries, lane);
      let weights = Block(probabilities(scores.low, t, h, s, end), probabilities(scores.high, t + 32u, h, s, end));
      let dP = products(&v, keys, &dO, queries, lane);
      workgroupBarrier();
      storeWeights(weights, lane);
      for (var i = 0u; i < 2u && column + 16u * i < fours; i++) { sumsV[i] = addWeighted(sumsV[i], &dO, queries, column + 16u * i, lane); }
      workgroupBarrier();
      storeWeights(Block(scoreGradients(weights.low, dP.low, t, h), scoreGradients(weights.high, dP.high, t + 32u, h)), lane);
      for (var i = 0u; i < 2u && column + 16u * i < fours; i++) { sumsK[i] = addWeighted(sumsK[i], &q, queries, column + 16u * i, lane); }
    }
  }
  for (var i = 0u; i < 2u; i++) {
    storeRows(&dV, keys, column + 16u * i, sumsV[i], vec4f(1.0), lane);
    storeRows(&dK, keys, column + 16u * i, sumsK[i], vec4f(p.scale), lane);
  }
}
