// Blocks of attention: 32 rows (queries, or keys in a gradient) against 64 others, by a workgroup of 8×8 threads.
// Thread (y, x) has rows 4y..4y+3 of a block; of the 64 others it has x, x+8, .. x+56; of 64 columns of a result 4x..4x+3 and 32 more on.
// A product loads 3 vectors from workgroup memory for 32 multiply-adds and reads 12 to 16 floats per 256 of them from memory.
// Workgroup memory: 12 KiB. Vectors within a row of a tile are permuted by the row, so that neither rows nor columns share banks.
const blockRows = 32u;
const blockOthers = 64u;
alias Values = ptr<storage, array<vec4f>, read_write>;
var<workgroup> rowTile: array<vec4f, 256>; // rows × 32 columns, or 16 others × 64 columns
var<workgroup> otherTile: array<vec4f, 512>; // others × 32 columns, or weights: others × rows

// Rows first..end of a matrix: vectors from one row to the next, and vectors before the head's own in a row.
struct Rows { first: u32, end: u32, stride: u32, offset: u32 }
// 4 rows of a thread against 8 others (first 4, last 4) or 8 columns: every vector of a matrix runs along the rows.
struct Block { low: mat4x4f, high: mat4x4f }

fn place(row: u32, four: u32) -> u32 { return row * 8u + (four ^ (row & 7u)); }

fn fetch(values: Values, rows: Rows, row: u32, four: u32) -> vec4f {
  if (rows.first + row >= rows.end || four >= p.C / 4u) { return vec4f(); }
  return values[(rows.first + row) * rows.stride + rows.offset + four];
}

// c + b·aᵀ.
fn outer(c: mat4x4f, a: vec4f, b: vec4f) -> mat4x4f {
  return mat4x4f(fma(vec4f(a.x), b, c[0]), fma(vec4f(a.y), b, c[1]), fma(vec4f(a.z), b, c[2]), fma(vec4f(a.w), b, c[3]));
}

// sum + m·w.
fn weigh(sum: vec4f, m: mat4x4f, w: vec4f) -> vec4f {
  return fma(m[3], vec4f(w.w), fma(m[2], vec4f(w.z), fma(m[1], vec4f(w.y), fma(m[0], vec4f(w.x), sum))));
}

fn addProducts(sum: mat4x4f, rows: mat4x4f, at: u32) -> mat4x4f {
  return mat4x4f(weigh(sum[0], rows, otherTile[at]), weigh(sum[1], rows, otherTile[at + 64u]), weigh(sum[2], rows, otherTile[at + 128u]), weigh(sum[3], rows, otherTile[at + 192u]));
}

// Products of rows of a with others of b over all columns, 32 columns at a time.
fn products(a: Values, rows: Rows, b: Values, others: Rows, lane: u32) -> Block {
  let y = lane / 8u;
  let x = lane % 8u;
  let wide = others.end > others.first + 32u;
  var sums = Block();
  for (var first = 0u; first < p.C / 4u; first += 8u) {
    workgroupBarrier();
    for (var row = y; row < blockRows; row += 8u) { rowTile[place(row, x)] = fetch(a, rows, row, first + x); }
    for (var row = y; row < blockOthers; row += 8u) { otherTile[place(row, x)] = fetch(b, others, row, first + x); }
    workgroupBarrier();
    for (var four = 0u; four < min(8u, p.C / 4u - first); four++) {
      let block = transpose(mat4x4f(rowTile[place(4u * y, four)], rowTile[place(4u * y + 1u, four)], rowTile[place(4u * y + 2u, four)], rowTile[place(4u * y + 3u, four)]));
      sums.low = addProducts(sums.low, block, place(x, four));
      if (wide) { sums.high = addProducts(sums.high, block, place(x, four) + 256u); }
    }
  }
  return sums;
}

// Puts weights of rows by others where addWeighted finds them; a barrier must have come after the last products.
fn storeWeights(weights: Block, lane: u32) {
  let at = place(lane % 8u, lane / 8u);
  for (var i = 0u; i < 4u; i++) {
    otherTile[at + 64u * i] = weights.low[i];
    otherTile[at + 64u * i + 256u] = weights.high[i];
  }
}

// sums + weights·b over 64 columns of b from vector `first` on, 16 others at a time and in order; where 32 columns are all, 32 others.
fn addWeighted(sums: Block, b: Values, others: Rows, first: u32, lane: u32) -> Block {
  let y = lane / 8u;
  let x = lane % 8u;
  let narrow = first + 8u >= p.C / 4u;
  let across = select(16u, 8u, narrow);
  let step = 256u / across;
  let count = min(blockOthers, others.end - others.first);
  var result = sums;
  for (var start = 0u; start < count; start += step) {
    workgroupBarrier();
    for (var at = lane; at < 256u; at += 64u) { rowTile[at] = fetch(b, others, start + at / across, first + at % across); }
    workgroupBarrier();
    let rows = select(0u, min(step, count - start), first + x < p.C / 4u);
    for (var row = 0u; row < rows; row++) {
      let weights = otherTile[place(start + row, y)];
      result.low = outer(result.low, rowTile[row * across + x], weights);
      if (!narrow) { result.high = outer(result.high, rowTile[row * across + 8u + x], weights); }
    }
  }
  return result;
}

// Writes a thread's part of 64 columns of a result, each row times its scale.
fn storeRows(values: Values, rows: Rows, first: u32, sums: Block, scale: vec4f, lane: u32) {
  let low = transpose(sums.low);
  let high = transpose(sums.high);
  for (var i = 0u; i < 4u; i++) {
    let row = rows.first + lane / 8u * 4u + i;
    if (row >= rows.end) { return; }
    let four = first + lane % 8u;
    let at = row * rows.stride + rows.offset + four;
    if (four < p.C / 4u) { values[at] = low[i] * scale[i]; }
    if (four + 8u < p.C / 4u) { values[at + 8u] = high[i] * scale[i]; }
  }
}
