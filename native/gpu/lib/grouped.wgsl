// How a workgroup of a grouped product finds its tile of 64 slots: moeTiles has listed them, expert and first slot, expert by expert.
// One list serves all products over the same offsets; workgroups past its end, or of an expert outside the window of weights that is
// bound, find no rows. The counts never leave the device.
struct Tile { expert: i32, start: u32, end: u32 }
var<workgroup> tile: Tile;
var<private> expert: u32; // within the window

fn groupedJob(group: vec3u, lane: u32, columns: u32, depth: u32) -> Job {
  if (lane == 0u) {
    let found = tiles[2u * group.y];
    tile = Tile(found, 0u, 0u);
    if (found >= 0) { tile = Tile(found, u32(tiles[2u * group.y + 1u]), u32(offsets[found + 1])); }
  }
  let own = workgroupUniformLoad(&tile);
  let index = u32(own.expert) - p.eFrom;
  expert = index;
  if (own.expert < i32(p.eFrom) || index >= p.eCount) { return Job(0u, 0u, 0u, 0u, 0u, 0u); }
  return Job(own.start, min(own.start + tileM, own.end), group.x * tileN, columns, 0u, depth);
}

// Row of the operand that slot m reads.
fn rowOf(m: u32) -> u32 {
  if (p.hasRows != 0u) { return u32(rows[m]); }
  return m;
}
