/**
 * How a packed weight lies in memory, the same for every instruction set: rows in strips of 16, interleaved so that one vector of 64
 * bytes serves all 16 rows of a strip (docs/formats.md has the picture). The numbers are those of core/shared/quantization.ts in
 * another order, so packing and unpacking lose nothing. A stack [E, N, J] is E matrices one after another, each padded to whole strips.
 *
 *  bf16  [J/2][16 rows][2 numbers]                                             odd J is padded with a zero
 *  q8    [J/32] of { [8 groups][16 rows][4 int8], [16 rows] float16 scale }    group g holds numbers 4g..4g+3 of the block
 *  q4    [J/32] of { [4 groups][16 rows][4 bytes], [16 rows] float16 scale }   low halves: group g, high halves: group g + 4
 */
import { blockBytes, blockWidth, decodeRows, rowBytes, type BlockType } from '#core/shared/quantization.ts'
import type { PackedDType, Tensor } from './backend.ts'

/** Version of this layout; a file names the one it was written in. */
export const layoutVersion = 1
export const stripRows = 16

export function isPacked(tensor: Tensor): tensor is Tensor & { dtype: PackedDType } {
  return tensor.dtype !== 'f32' && tensor.dtype !== 'i32'
}

/** Bytes of one strip of rows of `width` numbers. */
export function stripBytes(type: BlockType, width: number): number {
  return stripRows * rowBytes(type, type === 'bf16' ? width + (width % 2) : width)
}

function rowsAndWidth(shape: readonly number[]): { stacks: number; rows: number; width: number } {
  const [rows, width] = shape.slice(-2) as [number, number]
  return { stacks: shape.slice(0, -2).reduce((a, b) => a * b, 1), rows, width }
}

/** Bytes of a packed weight of this shape. */
export function packedBytes(type: BlockType, shape: readonly number[]): number {
  const { stacks, rows, width } = rowsAndWidth(shape)
  return stacks * Math.ceil(rows / stripRows) * stripBytes(type, width)
}

/** Bytes of a tensor of any dtype, without alignment. */
export function exactBytes(tensor: Tensor): number {
  return isPacked(tensor) ? packedBytes(tensor.dtype, tensor.shape) : tensor.shape.reduce((product, size) => product * size, 4)
}

/** Calls move(row's byte, strip's byte) for every byte of row `row` of a strip. */
function eachByte(type: BlockType, width: number, row: number, move: (inRow: number, inStrip: number) => void): void {
  if (type === 'bf16') {
    for (let k = 0; k < width; k++) {
      const at = ((k >> 1) * stripRows + row) * 4 + (k & 1) * 2
      move(2 * k, at)
      move(2 * k + 1, at + 1)
    }
    return
  }
  const [size, values] = [blockBytes[type], blockBytes[type] - 2]
  for (let block = 0; block < width / blockWidth; block++) {
    const [inRow, inStrip] = [block * size, block * size * stripRows]
    for (let i = 0; i < values; i++) move(inRow + 2 + i, inStrip + ((i >> 2) * stripRows + row) * 4 + (i & 3))
    const scale = inStrip + values * stripRows + 2 * row
    move(inRow, scale)
    move(inRow + 1, scale + 1)
  }
}

/** Packs one matrix of encoded rows. */
export function packRows(type: BlockType, encoded: Uint8Array, width: number): Uint8Array<ArrayBuffer> {
  const bytes = rowBytes(type, width)
  const rows = encoded.length / bytes
  const out = new Uint8Array(packedBytes(type, [rows, width]))
  for (let row = 0; row < rows; row++) {
    const [from, to] = [row * bytes, Math.floor(row / stripRows) * stripBytes(type, width)]
    eachByte(type, width, row % stripRows, (inRow, inStrip) => (out[to + inStrip] = encoded[from + inRow]!))
  }
  return out
}

/** The encoded rows of one packed matrix: the inverse of packRows. */
export function unpackRows(type: BlockType, packed: Uint8Array, rows: number, width: number): Uint8Array<ArrayBuffer> {
  const bytes = rowBytes(type, width)
  const out = new Uint8Array(rows * bytes)
  for (let row = 0; row < rows; row++) {
    const [to, from] = [row * bytes, Math.floor(row / stripRows) * stripBytes(type, width)]
    eachByte(type, width, row % stripRows, (inRow, inStrip) => (out[to + inRow] = packed[from + inStrip]!))
  }
  return out
}

/** The numbers of a packed weight of any rank, row-major. */
export function unpackNumbers(type: BlockType, packed: Uint8Array, shape: readonly number[]): Float32Array {
  const { stacks, rows, width } = rowsAndWidth(shape)
  const bytes = packed.length / stacks
  const out = new Float32Array(stacks * rows * width)
  for (let stack = 0; stack < stacks; stack++) {
    out.set(decodeRows(type, unpackRows(type, packed.subarray(stack * bytes, (stack + 1) * bytes), rows, width)), stack * rows * width)
  }
  return out
}
