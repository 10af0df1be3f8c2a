// dX = dY·weight + add, over a window of weight rows; every window after the first adds to what stands in dX.
// 2·T·N·J flops; reads T·N + N·J, writes T·J floats at the least; occupancy as the gemm part says.
// uses: gemm
struct Params { T: u32, N: u32, J: u32, nFrom: u32, nCount: u32, hasAdd: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> dX: array<Element>;
@group(0) @binding(2) var<storage, read_write> dY: array<Element>;
@group(0) @binding(3) var<storage, read_write> weight: array<Element>;
@group(0) @binding(4) var<storage, read_write> add: array<Element>;
const aAlongK = true;
const bAlongK = false;

fn findJob(group: vec3u, lane: u32) -> Job { return Job(group.y * tileM, p.T, group.x * tileN, p.J, 0u, p.nCount); }
fn loadA(m: u32, k: u32) -> Element { return dY[(m * p.N + p.nFrom + k) / width]; }
fn loadB(n: u32, k: u32) -> Element { return weight[(k * p.J + n) / width]; }
fn store(group: vec3u, m: u32, n: u32, value: Element) {
  let at = (m * p.J + n) / width;
  var sum = value;
  if (p.hasAdd != 0u) { sum += add[at]; }
  if (p.nFrom != 0u) { sum += dX[at]; }
  dX[at] = sum;
}
