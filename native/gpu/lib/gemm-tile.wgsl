// Matrix product through workgroup memory: a workgroup of 8×8 threads makes 64×64 outputs, 8×8 a thread, 16 k at a time.
// Per tile of 16 k a thread loads 8 vectors from memory (one 4×4 block of each operand, transposed in registers where it lies along k)
// and 64 from workgroup memory for 1,024 multiply-adds. The next blocks are loaded while the present ones are multiplied.
// Intensity: 16 multiply-adds per float read from memory. Workgroup memory: 8 KiB (4 KiB with f16 operands); about 110 registers a
// thread, so 8 to 10 workgroups of two warps stay resident on a multiprocessor of 64 Ki registers.
const tileN = 64u;
const depth = 16u;
var<workgroup> tileA: array<vec4<Operand>, 256>; // [k][m/4]
var<workgroup> tileB: array<vec4<Operand>, 256>; // [k][n/4]

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let job = findJob(group, lane);
  if (job.m >= job.mEnd) { return; }
  // Neighbouring threads load along the operand's own direction.
  let rowA = select(lane % 16u, lane / 4u, aAlongK);
  let stepA = select(lane / 16u, lane % 4u, aAlongK) * 4u;
  let rowB = select(lane % 16u, lane / 4u, bAlongK);
  let stepB = select(lane / 16u, lane % 4u, bAlongK) * 4u;
  // Rows and columns of a thread: four from each half of the tile, so that neighbours read neighbouring vectors.
  let y = lane / 8u;
  let x = lane % 8u;
  var c00 = mat4x4f();
  var c01 = mat4x4f();
  var c10 = mat4x4f();
  var c11 = mat4x4f();
  var a = blockA(job, job.m + rowA * 4u, job.k + stepA);
  var b = blockB(job, job.n + rowB * 4u, job.k + stepB);
  for (var k0 = job.k; k0 < job.kEnd; k0 += depth) {
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
      tileA[(stepA + i) * 16u + rowA] = vec4<Operand>(a[i]);
      tileB[(stepB + i) * 16u + rowB] = vec4<Operand>(b[i]);
    }
    workgroupBarrier();
    if (k0 + depth < job.kEnd) {
      a = blockA(job, job.m + rowA * 4u, k0 + depth + stepA);
      b = blockB(job, job.n + rowB * 4u, k0 + depth + stepB);
    }
    for (var k = 0u; k < depth; k++) {
      let a0 = vec4f(tileA[k * 16u + y]);
      let a1 = vec4f(tileA[k * 16u + 8u + y]);
      let b0 = vec4f(tileB[k * 16u + x]);
      let b1 = vec4f(tileB[k * 16u + 8u + x]);
      c00 = outer(c00, a0, b0);
      c01 = outer(c01, a0, b1);
      c10 = outer(c10, a1, b0);
      c11 = outer(c11, a1, b1);
    }
  }
  let m = job.m + y * 4u;
  let n = job.n + x * 4u;
  storeBlock(group, job, m, n, c00);
  storeBlock(group, job, m, n + 32u, c01);
  storeBlock(group, job, m + 32u, n, c10);
  storeBlock(group, job, m + 32u, n + 32u, c11);
}
