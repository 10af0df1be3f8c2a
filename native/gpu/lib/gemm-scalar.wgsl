// Matrix products of any size, C[m, n] = Σ_k A[m, k]·B[n, k], with scalar loads: for widths that are no multiples of four.
// A thread holds 4×4 outputs, a workgroup 64×16. Sums run over k in order.
alias Element = f32;
const width = 1u;
const tileM = 64u;
const tileN = 16u;

// Rows m..mEnd and columns n..nEnd of one tile, and the range of k.
struct Job { m: u32, mEnd: u32, n: u32, nEnd: u32, k: u32, kEnd: u32 }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let job = findJob(group, lane);
  let m = job.m + lane / 4u * 4u;
  let n = job.n + lane % 4u * 4u;
  if (m >= job.mEnd || n >= job.nEnd) { return; }
  let lastM = job.mEnd - 1u;
  let lastN = job.nEnd - 1u;
  var c = mat4x4f();
  for (var k = job.k; k < job.kEnd; k++) {
    let b = vec4f(loadB(n, k), loadB(min(n + 1u, lastN), k), loadB(min(n + 2u, lastN), k), loadB(min(n + 3u, lastN), k));
    c = mat4x4f(
      fma(vec4f(loadA(m, k)), b, c[0]),
      fma(vec4f(loadA(min(m + 1u, lastM), k)), b, c[1]),
      fma(vec4f(loadA(min(m + 2u, lastM), k)), b, c[2]),
      fma(vec4f(loadA(min(m + 3u, lastM), k)), b, c[3]),
    );
  }
  for (var i = 0u; i < 4u && m + i < job.mEnd; i++) {
    for (var j = 0u; j < 4u && n + j < job.nEnd; j++) { store(group, m + i, n + j, c[i][j]); }
  }
}
