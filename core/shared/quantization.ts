/**
 * Numbers in few bits, bit for bit as GGUF has them, row by row: `q4` (Q4_0) and `q8` (Q8_0) are blocks of 32 numbers of a row with
 * one float16 scale d, x ≈ d·q, q in −8..7 or −127..127; `bf16` is the upper half of a float32, rounded to nearest even.
 * How rows lie in memory for the kernels is core/backend/packed.ts's business, how in files that of core/formats.
 */

export type BlockType = 'bf16' | 'q8' | 'q4'

/** Numbers that share a scale. */
export const blockWidth = 32

/** Bytes of a block: the scale, then 32 int8, or 16 bytes of which number i < 16 is the low and number 16 + i the high half. */
export const blockBytes = { q8: 34, q4: 18 } as const

/** Bytes of one encoded row. */
export function rowBytes(type: BlockType, width: number): number {
  if (type === 'bf16') return 2 * width
  if (width % blockWidth !== 0) throw new Error(`a row of ${width} numbers is no whole number of ${type} blocks`)
  return (width / blockWidth) * blockBytes[type]
}

/** Value of a float16's bits. */
export function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >> 10) & 0x1f
  const fraction = half & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction ? NaN : sign * Infinity
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

const bits = new Uint32Array(1)
const float = new Float32Array(bits.buffer)

/** Bits of the float16 nearest to `value` (ties to even); beyond its range, infinity. */
export function floatToHalf(value: number): number {
  float[0] = value
  const sign = (bits[0]! >>> 16) & 0x8000
  const magnitude = Math.abs(float[0]!)
  if (Number.isNaN(magnitude)) return sign | 0x7e00
  if (magnitude >= 65520) return sign | 0x7c00
  // Below 2^-14 the step is 2^-24, above a 1024th of the power of two.
  const exponent = Math.max(-14, Math.floor(Math.log2(magnitude || 1e-30)))
  const step = 2 ** (exponent - 10)
  const steps = magnitude / step
  const floor = Math.floor(steps)
  const rest = steps - floor
  const count = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor
  return sign | (exponent === -14 ? count : ((exponent + 14) << 10) + count)
}

/** Upper half of a float32's bits, rounded to nearest even; NaN stays one. */
export function floatToBf16(floatBits: number): number {
  if ((floatBits & 0x7fffffff) > 0x7f800000) return (floatBits >>> 16) | 0x40
  return ((floatBits + 0x7fff + ((floatBits >>> 16) & 1)) >>> 16) & 0xffff
}

/** Where the largest number of a block may land, in steps: the first is Q4_0's own choice, the others trade it for the rest. */
const q4Reach = [-8, -8.5, -7.5, -7, -6.5, -9, 7.5, 7, -6]

/**
 * The scale of least error among those that put the largest number at one of q4Reach. An error weighs as the square of its number: on
 * the quick start's model that costs a third less perplexity than equal weights. With weights w = x² and the integers q of a scale, the best
 * scale is Σwxq/Σwq², and the error falls as (Σwxq)²/Σwq² grows.
 */
function q4Scale(x: Float32Array, from: number): number {
  let largest = 0
  for (let i = from; i < from + blockWidth; i++) if (Math.abs(x[i]!) > Math.abs(largest)) largest = x[i]!
  if (largest === 0) return 0
  let [best, bestGain] = [largest / -8, -1]
  for (const reach of q4Reach) {
    const inverse = reach / largest
    let [xq, qq] = [0, 0]
    for (let i = from; i < from + blockWidth; i++) {
      const value = x[i]!
      const q = Math.max(0, Math.min(15, (value * inverse + 8.5) | 0)) - 8
      const weighted = value * value * q
      xq += weighted * value
      qq += weighted * q
    }
    const gain = qq > 0 ? (xq * xq) / qq : 0
    if (gain > bestGain) [best, bestGain] = [xq / qq, gain]
  }
  return best
}

function encodeQ4(x: Float32Array, from: number, out: Uint8Array, at: number): void {
  const half = floatToHalf(q4Scale(x, from))
  const scale = halfToFloat(half)
  const inverse = scale === 0 ? 0 : 1 / scale
  out[at] = half & 0xff
  out[at + 1] = half >> 8
  for (let i = 0; i < 16; i++) {
    const low = Math.max(0, Math.min(15, (x[from + i]! * inverse + 8.5) | 0))
    const high = Math.max(0, Math.min(15, (x[from + 16 + i]! * inverse + 8.5) | 0))
    out[at + 2 + i] = low | (high << 4)
  }
}

function encodeQ8(x: Float32Array, from: number, out: Uint8Array, at: number): void {
  let largest = 0
  for (let i = from; i < from + blockWidth; i++) largest = Math.max(largest, Math.abs(x[i]!))
  const half = floatToHalf(largest / 127)
  const scale = halfToFloat(half)
  const inverse = scale === 0 ? 0 : 1 / scale
  out[at] = half & 0xff
  out[at + 1] = half >> 8
  for (let i = 0; i < blockWidth; i++) out[at + 2 + i] = Math.max(-127, Math.min(127, Math.round(x[from + i]! * inverse)))
}

/** Whole rows of `width` numbers, encoded one after another. */
export function encodeRows(type: BlockType, x: Float32Array, width: number): Uint8Array<ArrayBuffer> {
  if (x.length % width !== 0) throw new Error(`${x.length} numbers are no whole number of rows of ${width}`)
  const out = new Uint8Array((x.length / width) * rowBytes(type, width))
  if (type === 'bf16') {
    const source = new Uint32Array(x.buffer, x.byteOffset, x.length)
    const halves = new Uint16Array(out.buffer)
    for (let i = 0; i < halves.length; i++) halves[i] = floatToBf16(source[i]!)
    return out
  }
  const [encode, bytes] = [type === 'q4' ? encodeQ4 : encodeQ8, blockBytes[type]]
  for (let block = 0; block * blockWidth < x.length; block++) encode(x, block * blockWidth, out, block * bytes)
  return out
}

/** The numbers of encoded rows. */
export function decodeRows(type: BlockType, bytes: Uint8Array): Float32Array {
  if (type === 'bf16') return Float32Array.from({ length: bytes.length / 2 }, (_, i) => ((bits[0] = (bytes[2 * i]! << 16) | (bytes[2 * i + 1]! << 24)), float[0]!))
  const size = blockBytes[type]
  const x = new Float32Array((bytes.length / size) * blockWidth)
  for (let block = 0; block * size < bytes.length; block++) {
    const at = block * size
    const scale = halfToFloat(bytes[at]! | (bytes[at + 1]! << 8))
    for (let i = 0; i < blockWidth; i++) {
      const q = type === 'q8' ? (bytes[at + 2 + i]! << 24) >> 24 : ((bytes[at + 2 + (i % 16)]! >> (i < 16 ? 0 : 4)) & 15) - 8
      x[block * blockWidth + i] = scale * q
    }
  }
  return x
}
