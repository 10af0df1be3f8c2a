// Matrix product without workgroup memory or barriers: a thread holds 8×4 outputs, a workgroup of 8×8 threads 64×32.
// For adapters whose barriers are dear (software) and as the plain one of two ways to the same numbers.
// Per 4 k: 12 vector loads for 128 multiply-adds; 40 vector registers; nothing shared, so occupancy is bound by registers alone.
const tileN = 32u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let job = findJob(group, lane);
  let m = job.m + lane / 8u * 8u;
  let n = job.n + lane % 8u * 4u;
  if (m >= job.mEnd || n >= job.nEnd) { return; }
  var upper = mat4x4f();
  var lower = mat4x4f();
  for (var k = job.k; k < job.kEnd; k += 4u) {
    let b = blockB(job, n, k);
    let a0 = blockA(job, m, k);
    let a1 = blockA(job, m + 4u, k);
    upper = outer(outer(outer(outer(upper, a0[0], b[0]), a0[1], b[1]), a0[2], b[2]), a0[3], b[3]);
    lower = outer(outer(outer(outer(lower, a1[0], b[0]), a1[1], b[1]), a1[2], b[2]), a1[3], b[3]);
  }
  storeBlock(group, job, m, n, upper);
  storeBlock(group, job, m + 4u, n, lower);
}
