// The 256 assignments of one block, expert by expert as the router chose, in workgroup memory; −1 past the last.
var<workgroup> chosen: array<i32, 256>;

fn loadBlock(block: u32, lane: u32) {
  for (var i = lane; i < 256u; i += 64u) {
    chosen[i] = -1;
    if (block * 256u + i < p.S) { chosen[i] = experts[block * 256u + i]; }
  }
  workgroupBarrier();
}
