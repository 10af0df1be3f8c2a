// ropeForward and ropeBackward: rotates the pairs (i, i + C/2) of every head by ± positions[t]·theta^(−2i/C).
// The angle is kept in turns as fixed point, so that it is exact for any position: float32 would be off by 1e-4 after some thousand
// tokens, and sin and cos of drivers by up to 5e-4. 6 flops a pair; reads and writes T·H·C floats; bound by memory; one thread a pair.
// uses: grid
struct Params { T: u32, H: u32, C: u32, inverse: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> positions: array<i32>;
@group(0) @binding(4) var<storage, read_write> turns: array<u32>; // turns per position: upper 32 bits [C/2], next 16 bits [C/2]

// (cos, sin) of a fraction of a turn in units of 2^-32: by the octant's own polynomials on ± an eighth of a turn.
fn cosSin(phase: u32) -> vec2f {
  let quarter = (phase + 0x20000000u) >> 30u;
  let rest = bitcast<i32>(phase - (quarter << 30u));
  let a = f32(rest) * 1.4629180792671596e-9; // 2π / 2^32
  let b = a * a;
  let s = a * (1.0 + b * (-0.16666667163 + b * (0.0083333337680 + b * (-0.00019841270114 + b * 2.7557314297e-6))));
  let c = 1.0 + b * (-0.5 + b * (0.041666667908 + b * (-0.0013888889225 + b * (2.4801587642e-5 - b * 2.7557314297e-7))));
  switch (quarter & 3u) {
    case 0u: { return vec2f(c, s); }
    case 1u: { return vec2f(-s, c); }
    case 2u: { return vec2f(-c, -s); }
    default: { return vec2f(s, -c); }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let at = flatGroup(group) * 64u + lane;
  let pairs = p.C / 2u;
  if (at >= p.T * p.H * pairs) { return; }
  let i = at % pairs;
  let head = at / pairs; // of token t: t·H + h
  // A negative position marks padding: its row is meaningless, but must stay finite.
  let position = u32(max(positions[head / p.H], 0));
  let low = turns[pairs + i];
  let phase = position * turns[i] + (position >> 16u) * low + (((position & 0xffffu) * low) >> 16u);
  var turn = cosSin(phase);
  if (p.inverse != 0u) { turn.y = -turn.y; }
  let a = head * p.C + i;
  let b = a + pairs;
  let value = vec2f(x[a], x[b]);
  y[a] = value.x * turn.x - value.y * turn.y;
  y[b] = value.y * turn.x + value.x * turn.y;
}
