// Lists the tiles of 64 slots of all experts from the prefix sums: tiles[i] = (expert, first slot), −1 past the end.
// One workgroup; each thread counts the tiles of E/64 neighbouring experts, then writes them. Reads E, writes 2·maxTiles integers.
struct Params { E: u32, maxTiles: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> tiles: array<i32>;
@group(0) @binding(2) var<storage, read_write> offsets: array<i32>;
var<workgroup> counts: array<u32, 64>;

fn tilesOf(expert: u32) -> u32 { return (u32(offsets[expert + 1u] - offsets[expert]) + 63u) / 64u; }

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  let share = (p.E + 63u) / 64u;
  let first = min(lane * share, p.E);
  let end = min(first + share, p.E);
  var own = 0u;
  for (var e = first; e < end; e++) { own += tilesOf(e); }
  counts[lane] = own;
  workgroupBarrier();
  var at = 0u;
  var total = 0u;
  for (var i = 0u; i < 64u; i++) {
    if (i < lane) { at += counts[i]; }
    total += counts[i];
  }
  for (var e = first; e < end; e++) {
    for (var i = 0u; i < tilesOf(e); i++) {
      tiles[2u * at] = i32(e);
      tiles[2u * at + 1u] = offsets[e] + i32(64u * i);
      at++;
    }
  }
  for (var i = total + lane; i < p.maxTiles; i += 64u) { tiles[2u * i] = -1; }
}
