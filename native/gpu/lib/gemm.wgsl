// What the vector forms of the matrix product C[m, n] = Σ_k A[m, k]·B[n, k] share. The kernel's own file says where its operands are:
// loadA(m, k) and loadB(n, k) give four neighbours along k when aAlongK / bAlongK, else along m / n.
// Every form sums over k in order, one fused multiply-add after another, so they agree to the last bit where fma is fused.
alias Element = vec4f;
const width = 4u;
const tileM = 64u;

// Rows m..mEnd and columns n..nEnd of one tile, and the range of k.
struct Job { m: u32, mEnd: u32, n: u32, nEnd: u32, k: u32, kEnd: u32 }

// Column i holds A[m..m+3, k+i]; zero outside the job.
fn blockA(job: Job, m: u32, k: u32) -> mat4x4f {
  var block = mat4x4f();
  if (aAlongK) {
    if (k < job.kEnd) { for (var i = 0u; i < 4u; i++) { if (m + i < job.mEnd) { block[i] = loadA(m + i, k); } } }
    return transpose(block);
  }
  if (m < job.mEnd) { for (var i = 0u; i < 4u; i++) { if (k + i < job.kEnd) { block[i] = loadA(m, k + i); } } }
  return block;
}

// Column i holds B[n..n+3, k+i]; zero outside the job.
fn blockB(job: Job, n: u32, k: u32) -> mat4x4f {
  var block = mat4x4f();
  if (bAlongK) {
    if (k < job.kEnd) { for (var i = 0u; i < 4u; i++) { if (n + i < job.nEnd) { block[i] = loadB(n + i, k); } } }
    return transpose(block);
  }
  if (n < job.nEnd) { for (var i = 0u; i < 4u; i++) { if (k + i < job.kEnd) { block[i] = loadB(n, k + i); } } }
  return block;
}

// c + a·bᵀ; row i of the outputs is column i of the matrix.
fn outer(c: mat4x4f, a: vec4f, b: vec4f) -> mat4x4f {
  return mat4x4f(fma(vec4f(a.x), b, c[0]), fma(vec4f(a.y), b, c[1]), fma(vec4f(a.z), b, c[2]), fma(vec4f(a.w), b, c[3]));
}

fn storeBlock(group: vec3u, job: Job, m: u32, n: u32, c: mat4x4f) {
  if (n >= job.nEnd) { return; }
  if (m < job.mEnd) { store(group, m, n, c[0]); }
  if (m + 1u < job.mEnd) { store(group, m + 1u, n, c[1]); }
  if (m + 2u < job.mEnd) { store(group, m + 2u, n, c[2]); }
  if (m + 3u < job.mEnd) { store(group, m + 3u, n, c[3]); }
}
