// The adapter's peak: 64·16·8 multiply-adds a round and workgroup in independent registers, nothing read. Written so that nothing folds away.
struct Params { rounds: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = vec4f(f32(id.x) * 1e-6 + 0.999);
  var a = vec4f(0.1, 0.2, 0.3, 0.4);
  var b = a + 0.5;
  for (var round = 0u; round < p.rounds; round++) {
    for (var i = 0u; i < 16u; i++) {
      a = fma(a, x, b);
      b = fma(b, x, a);
    }
  }
  let sum = a + b;
  out[id.x] = sum.x + sum.y + sum.z + sum.w;
}
