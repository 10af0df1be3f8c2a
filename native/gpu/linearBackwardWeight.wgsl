// dWeight += dYᵀ·x for a window of its rows. Where that makes too few tiles for a large GPU, the tokens are split:
// workgroups of split z sum `tokens` of them into their own copy of the window (accumulate 0), and addPartials adds the copies in order.
// 2·T·N·J flops; reads T·N + T·J, writes N·J floats a split at the least; occupancy as the gemm part says.
// uses: gemm
struct Params { T: u32, N: u32, J: u32, nFrom: u32, nCount: u32, tokens: u32, accumulate: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dWeight: array<Element>;
@group(0) @binding(2) var<storage, read_write> dY: array<Element>;
@group(0) @binding(3) var<storage, read_write> x: array<Element>;
const aAlongK = false;
const bAlongK = false;

fn findJob(group: vec3u, lane: u32) -> Job {
  let start = group.z * p.tokens;
  return Job(group.y * tileM, p.nCount, group.x * tileN, p.J, start, min(start + p.tokens, p.T));
}
fn loadA(m: u32, k: u32) -> Element { return dY[(k * p.N + p.nFrom + m) / width]; }
fn loadB(n: u32, k: u32) -> Element { return x[(k * p.J + n) / width]; }
fn store(group: vec3u, m: u32, n: u32, value: Element) {
  let at = ((group.z * p.nCount + m) * p.J + n) / width;
  if (p.accumulate != 0u) { dWeight[at] += value; } else { dWeight[at] = value; }
}
