// total = counts + add: the load of several layers that share their experts. One workgroup.
struct Params { E: u32, hasAdd: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> total: array<i32>;
@group(0) @binding(2) var<storage, read_write> counts: array<i32>;
@group(0) @binding(3) var<storage, read_write> add: array<i32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  for (var e = lane; e < p.E; e += 64u) {
    var sum = counts[e];
    if (p.hasAdd != 0u) { sum += add[e]; }
    total[e] = sum;
  }
}
