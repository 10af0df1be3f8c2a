// Sums and maxima over the 64 threads of a workgroup, in workgroup memory: eight threads take eight values each, then every thread takes
// those eight. Two levels instead of six halvings: three barriers, which are what a reduction costs. Every thread gets the result.
// The order is fixed, so the bits are the same in every run.
var<workgroup> reduceSlots: array<f32, 64>;
var<workgroup> reduceEights: array<f32, 8>;

fn sumAll(value: f32, lane: u32) -> f32 {
  reduceSlots[lane] = value;
  workgroupBarrier();
  if (lane < 8u) {
    var sum = reduceSlots[lane];
    for (var i = lane + 8u; i < 64u; i += 8u) { sum += reduceSlots[i]; }
    reduceEights[lane] = sum;
  }
  workgroupBarrier();
  var total = reduceEights[0];
  for (var i = 1u; i < 8u; i++) { total += reduceEights[i]; }
  workgroupBarrier();
  return total;
}

fn maxAll(value: f32, lane: u32) -> f32 {
  reduceSlots[lane] = value;
  workgroupBarrier();
  if (lane < 8u) {
    var most = reduceSlots[lane];
    for (var i = lane + 8u; i < 64u; i += 8u) { most = max(most, reduceSlots[i]); }
    reduceEights[lane] = most;
  }
  workgroupBarrier();
  var total = reduceEights[0];
  for (var i = 1u; i < 8u; i++) { total = max(total, reduceEights[i]); }
  workgroupBarrier();
  return total;
}
