// dWeight[e] += Σ_s dY[rowsY[s]]ᵀ·x[rowsX[s]] over the slots of e; without rows, row s itself. Workgroup z is expert z of the window.
// 2·S·N·J flops; reads S·N + S·J and reads and writes E·N·J floats at the least; an expert without slots ends at once.
// uses: gemm
struct Params { N: u32, J: u32, eFrom: u32, hasRowsY: u32, hasRowsX: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dWeight: array<Element>;
@group(0) @binding(2) var<storage, read_write> dY: array<Element>;
@group(0) @binding(3) var<storage, read_write> x: array<Element>;
@group(0) @binding(4) var<storage, read_write> offsets: array<i32>;
@group(0) @binding(5) var<storage, read_write> rowsY: array<i32>;
@group(0) @binding(6) var<storage, read_write> rowsX: array<i32>;
const aAlongK = false;
const bAlongK = false;
var<workgroup> slots: vec2u;

fn findJob(group: vec3u, lane: u32) -> Job {
  if (lane == 0u) { slots = vec2u(u32(offsets[p.eFrom + group.z]), u32(offsets[p.eFrom + group.z + 1u])); }
  let range = workgroupUniformLoad(&slots);
  if (range.x == range.y) { return Job(0u, 0u, 0u, 0u, 0u, 0u); }
  return Job(group.y * tileM, p.N, group.x * tileN, p.J, range.x, range.y);
}
fn loadA(m: u32, k: u32) -> Element {
  var row = k;
  if (p.hasRowsY != 0u) { row = u32(rowsY[k]); }
  return dY[(row * p.N + m) / width];
}
fn loadB(n: u32, k: u32) -> Element {
  var row = k;
  if (p.hasRowsX != 0u) { row = u32(rowsX[k]); }
  return x[(row * p.J + n) / width];
}
fn store(group: vec3u, m: u32, n: u32, value: Element) { dWeight[((group.z * p.N + m) * p.J + n) / width] += value; }
