// Sums and maxima over the 64 threads of a workgroup, by a tree in workgroup memory. Every thread gets the result.
// The order is fixed, so the bits are the same in every run.
var<workgroup> reduceSlots: array<f32, 64>;

fn sumAll(value: f32, lane: u32) -> f32 {
  workgroupBarrier();
  reduceSlots[lane] = value;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { reduceSlots[lane] += reduceSlots[lane + half]; }
  }
  workgroupBarrier();
  return reduceSlots[0];
}

fn maxAll(value: f32, lane: u32) -> f32 {
  workgroupBarrier();
  reduceSlots[lane] = value;
  for (var half = 32u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { reduceSlots[lane] = max(reduceSlots[lane], reduceSlots[lane + half]); }
  }
  workgroupBarrier();
  return reduceSlots[0];
}
