// How a workgroup of a grouped product finds its tile of 64 slots: moeTiles has listed them, expert and first slot, expert by expert.
// One list serves all products over the same offsets; workgroups past its end find no rows. The counts never leave the device.
struct Tile { expert: i32, start: u32, end: u32 }
var<workgroup> tile: Tile;

fn findTile(index: u32, lane: u32) -> Tile {
  if (lane == 0u) {
    let expert = tiles[2u * index];
    tile = Tile(expert, 0u, 0u);
    if (expert >= 0) { tile = Tile(expert, u32(tiles[2u * index + 1u]), u32(offsets[expert + 1])); }
  }
  return workgroupUniformLoad(&tile);
}
