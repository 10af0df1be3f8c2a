// y = x·weightᵀ + add, columns nFrom..nFrom+nCount of y from a window of weight rows.
// 2·T·N·J flops; reads T·J + N·J, writes T·N floats at the least; occupancy as the gemm part says.
// uses: gemm
struct Params { T: u32, N: u32, J: u32, nFrom: u32, nCount: u32, hasAdd: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
@group(0) @binding(2) var<storage, read_write> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> weight: array<Element>;
@group(0) @binding(4) var<storage, read_write> add: array<Element>;
const aAlongK = true;
const bAlongK = true;

fn findJob(group: vec3u, lane: u32) -> Job { return Job(group.y * tileM, p.T, group.x * tileN, p.nCount, 0u, p.J); }
fn loadA(m: u32, k: u32) -> Element { return x[(m * p.J + k) / width]; }
fn loadB(n: u32, k: u32) -> Element { return weight[(n * p.J + k) / width]; }
fn store(group: vec3u, m: u32, n: u32, value: Element) {
  let at = (m * p.N + p.nFrom + n) / width;
  if (p.hasAdd != 0u) { y[at] = value + add[at]; } else { y[at] = value; }
}
