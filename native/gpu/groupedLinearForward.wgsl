// y[s] = weight[e]·x[rows[s]] for the slots s of the experts e of a window; without rows, x[s]. Dropless: every slot is in one tile.
// 2·S·N·J flops; reads S·J + E·N·J, writes S·N floats at the least; the last tile of an expert may be part empty (on average half a tile).
// uses: gemm grouped
struct Params { N: u32, J: u32, eFrom: u32, eCount: u32, hasRows: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
@group(0) @binding(2) var<storage, read_write> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> weight: array<Element>;
@group(0) @binding(4) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(5) var<storage, read_write> rows: array<i32>;
@group(0) @binding(6) var<storage, read_write> tiles: array<i32>;
const aAlongK = true;
const bAlongK = true;
var<private> expert: u32; // within the window

fn findJob(group: vec3u, lane: u32) -> Job {
  let found = findTile(group.y, lane);
  let index = u32(found.expert) - p.eFrom;
  expert = index;
  if (found.expert < i32(p.eFrom) || index >= p.eCount) { return Job(0u, 0u, 0u, 0u, 0u, 0u); }
  return Job(found.start, min(found.start + tileM, found.end), group.x * tileN, p.N, 0u, p.J);
}
fn loadA(m: u32, k: u32) -> Element {
  var row = m;
  if (p.hasRows != 0u) { row = u32(rows[m]); }
  return x[(row * p.J + k) / width];
}
fn loadB(n: u32, k: u32) -> Element { return weight[((expert * p.N + n) * p.J + k) / width]; }
fn store(group: vec3u, m: u32, n: u32, value: Element) { y[(m * p.N + n) / width] = value; }
