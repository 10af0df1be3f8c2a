// Matrix product on matrix units (subgroup matrices, an experiment of Dawn's): 64×64 outputs a workgroup of four subgroups, 16 rows each.
// Operands are laid out in workgroup memory by k, as float16 or float32 as the adapter's configuration wants; results are float32.
// The shape of the units, matrixM × matrixN × matrixK, and the threads of a subgroup are constants in front of this file.
// Workgroup memory: 4 KiB of operands and 8 KiB for half of the results at a time. Compiled and validated, but not run by its authors: no card.
enable chromium_experimental_subgroup_matrix;
enable subgroups;
const tileN = 64u;
const depth = max(matrixK, 8u);
const blocks = 4u * depth; // 4×4 blocks of one operand's tile
const threads = 4u * subgroupThreads;
const stripRows = 16u / matrixM;
const stripColumns = 64u / matrixN;
var<workgroup> tileA: array<Operand, 64u * depth>; // [k][m]
var<workgroup> tileB: array<Operand, 64u * depth>; // [k][n]
var<workgroup> results: array<f32, 2048>; // [m][n/2]

@compute @workgroup_size(threads)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32, @builtin(subgroup_id) subgroup: u32) {
  let job = findJob(group, lane);
  if (job.m >= job.mEnd) { return; }
  let strip = subgroup * 16u;
  var sums: array<subgroup_matrix_result<f32, matrixN, matrixM>, stripRows * stripColumns>;
  for (var k0 = job.k; k0 < job.kEnd; k0 += depth) {
    workgroupBarrier();
    for (var block = lane; block < 2u * blocks; block += threads) {
      let row = block % 16u * 4u;
      let step = block % blocks / 16u * 4u;
      if (block < blocks) {
        let a = blockA(job, job.m + row, k0 + step);
        for (var i = 0u; i < 16u; i++) { tileA[(step + i / 4u) * 64u + row + i % 4u] = Operand(a[i / 4u][i % 4u]); }
      } else {
        let b = blockB(job, job.n + row, k0 + step);
        for (var i = 0u; i < 16u; i++) { tileB[(step + i / 4u) * 64u + row + i % 4u] = Operand(b[i / 4u][i % 4u]); }
      }
    }
    workgroupBarrier();
    for (var k = 0u; k < depth; k += matrixK) {
      for (var i = 0u; i < stripRows; i++) {
        let left = subgroupMatrixLoad<subgroup_matrix_left<Operand, matrixK, matrixM>, col_major>(&tileA, k * 64u + strip + i * matrixM, 64u);
        for (var j = 0u; j < stripColumns; j++) {
          let right = subgroupMatrixLoad<subgroup_matrix_right<Operand, matrixN, matrixK>, row_major>(&tileB, k * 64u + j * matrixN, 64u);
          sums[i * stripColumns + j] = subgroupMatrixMultiplyAccumulate(left, right, sums[i * stripColumns + j]);
        }
      }
    }
  }
  for (var half = 0u; half < 2u; half++) {
    workgroupBarrier();
    for (var i = 0u; i < stripRows; i++) {
      for (var j = 0u; j < stripColumns / 2u; j++) {
        subgroupMatrixStore<row_major>(&results, (strip + i * matrixM) * 32u + j * matrixN, sums[i * stripColumns + half * stripColumns / 2u + j], 32u);
      }
    }
    workgroupBarrier();
    for (var at = lane; at < 512u; at += threads) {
      let m = job.m + at / 8u;
      let n = job.n + half * 32u + at % 8u * 4u;
      if (m >= job.mEnd || n >= job.nEnd) { continue; }
      store(group, m, n, vec4f(results[4u * at], results[4u * at + 1u], results[4u * at + 2u], results[4u * at + 3u]));
    }
  }
}
