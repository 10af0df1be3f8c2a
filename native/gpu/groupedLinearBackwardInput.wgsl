// dX[s] = weight[e]ᵀ·dY[rows[s]] for the slots s of the experts e of a window; without rows, dY[s].
// 2·S·N·J flops; reads S·N + E·N·J, writes S·J floats at the least; tiles as in groupedLinearForward.
// uses: gemm grouped
struct Params { N: u32, J: u32, eFrom: u32, eCount: u32, hasRows: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dX: array<Element>;
@group(0) @binding(2) var<storage, read_write> dY: array<Element>;
@group(0) @binding(3) var<storage, read_write> weight: array<Element>;
@group(0) @binding(4) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(5) var<storage, read_write> rows: array<i32>;
@group(0) @binding(6) var<storage, read_write> tiles: array<i32>;
const aAlongK = true;
const bAlongK = false;
var<private> expert: u32; // within the window

fn findJob(group: vec3u, lane: u32) -> Job {
  let found = findTile(group.y, lane);
  let index = u32(found.expert) - p.eFrom;
  expert = index;
  if (found.expert < i32(p.eFrom) || index >= p.eCount) { return Job(0u, 0u, 0u, 0u, 0u, 0u); }
  return Job(found.start, min(found.start + tileM, found.end), group.x * tileN, p.J, 0u, p.N);
}
fn loadA(m: u32, k: u32) -> Element {
  var row = m;
  if (p.hasRows != 0u) { row = u32(rows[m]); }
  return dY[(row * p.N + k) / width];
}
fn loadB(n: u32, k: u32) -> Element { return weight[((expert * p.N + k) * p.J + n) / width]; }
fn store(group: vec3u, m: u32, n: u32, value: Element) { dX[(m * p.J + n) / width] = value; }
