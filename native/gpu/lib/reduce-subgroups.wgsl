// Sums and maxima over the 64 threads of a workgroup: within each subgroup by the hardware, across them in workgroup memory.
// It takes threads to lie in subgroups in order, which drivers do and WGSL does not promise: the start-up check would show it.
// Whatever the subgroup's size (4 to 128), no size is assumed.
enable subgroups;
var<workgroup> reduceSlots: array<f32, 64>;

fn sumAll(value: f32, lane: u32) -> f32 {
  let size = min(subgroupAdd(1u), 64u);
  let own = subgroupAdd(value);
  workgroupBarrier();
  if (lane % size == 0u) { reduceSlots[lane / size] = own; }
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < 64u / size; i++) { total += reduceSlots[i]; }
  return total;
}

fn maxAll(value: f32, lane: u32) -> f32 {
  let size = min(subgroupAdd(1u), 64u);
  let own = subgroupMax(value);
  workgroupBarrier();
  if (lane % size == 0u) { reduceSlots[lane / size] = own; }
  workgroupBarrier();
  var most = reduceSlots[0];
  for (var i = 1u; i < 64u / size; i++) { most = max(most, reduceSlots[i]); }
  return most;
}
