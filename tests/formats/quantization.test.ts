/** Blocks of 4 and 8 bits and bf16: against the definitions by other means, and the packed order of rows, which loses nothing. */
import { describe, expect, test } from 'vitest'
import { packedBytes, packRows, stripBytes, unpackNumbers, unpackRows } from '#core/backend/packed.ts'
import { createRandom } from '#core/shared/random.ts'
import { blockWidth, decodeRows, encodeRows, floatToBf16, floatToHalf, halfToFloat, rowBytes, type BlockType } from '#core/shared/quantization.ts'

const normals = (count: number, name: string): Float32Array => {
  const random = createRandom(5, name)
  return Float32Array.from({ length: count }, () => random.nextNormal())
}
const worst = (a: Float32Array, b: Float32Array): number => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0)
/** Root of the mean squared error, each weighed as the square of its number. */
const weightedError = (a: Float32Array, b: Float32Array): number => Math.sqrt(a.reduce((sum, x, i) => sum + (x * (x - b[i]!)) ** 2, 0) / a.length)

test('every float16 comes back from its number', () => {
  for (let half = 0; half < 0x10000; half++) {
    const value = halfToFloat(half)
    if (!Number.isNaN(value)) expect(floatToHalf(value)).toBe(half)
  }
})

test('a float16 is the nearest, ties to even', () => {
  expect(floatToHalf(1 + 2 ** -11)).toBe(0x3c00)
  expect(floatToHalf(1 + 3 * 2 ** -11)).toBe(0x3c02)
  expect(floatToHalf(65519)).toBe(0x7bff)
  expect(floatToHalf(65520)).toBe(0x7c00)
  expect(floatToHalf(2 ** -25)).toBe(0)
  expect(floatToHalf(-3 * 2 ** -25)).toBe(0x8002)
})

test('bf16 rounds to nearest even and keeps NaN', () => {
  const bitsOf = (x: number): number => new Uint32Array(Float32Array.of(x).buffer)[0]!
  expect(floatToBf16(bitsOf(1))).toBe(0x3f80)
  expect(floatToBf16(0x3f808000)).toBe(0x3f80)
  expect(floatToBf16(0x3f818000)).toBe(0x3f82)
  expect(floatToBf16(0x7f800001) & 0x7fff).toBeGreaterThan(0x7f80)
})

describe('errors', () => {
  const x = normals(64 * 256, 'errors')
  test('q8 is within half a step of its block’s largest number', () => {
    const y = decodeRows('q8', encodeRows('q8', x, 256))
    for (let from = 0; from < x.length; from += blockWidth) {
      const block = x.subarray(from, from + blockWidth)
      const largest = block.reduce((a, b) => Math.max(a, Math.abs(b)), 0)
      expect(worst(block, y.subarray(from, from + blockWidth))).toBeLessThan((largest / 127) * 0.5 * 1.02)
    }
  })
  test('q4 has a smaller error than the plain choice of scale', () => {
    const plain = Float32Array.from(x)
    for (let from = 0; from < x.length; from += blockWidth) {
      const block = plain.subarray(from, from + blockWidth)
      const d = block.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0) / -8
      block.forEach((value, i) => (block[i] = d * (Math.min(15, Math.floor(value / d + 8.5)) - 8)))
    }
    expect(weightedError(x, decodeRows('q4', encodeRows('q4', x, 256)))).toBeLessThan(0.9 * weightedError(x, plain))
  })
  test('zeros stay zeros', () => {
    for (const type of ['bf16', 'q8', 'q4'] as const) expect(decodeRows(type, encodeRows(type, new Float32Array(64), 64))).toEqual(new Float32Array(64))
  })
})

describe.each<BlockType>(['bf16', 'q8', 'q4'])('packed %s', (type) => {
  test('gives back its rows bit for bit, rows that fill no strip too', () => {
    for (const [rows, width] of [[16, 64], [37, 96], [1, 32], ...(type === 'bf16' ? [[5, 7]] : [])] as [number, number][]) {
      const encoded = encodeRows(type, normals(rows * width, 'rows'), width)
      const packed = packRows(type, encoded, width)
      expect(packed.length).toBe(Math.ceil(rows / 16) * stripBytes(type, width))
      expect(packed.length).toBe(packedBytes(type, [rows, width]))
      expect(unpackRows(type, packed, rows, width)).toEqual(encoded)
      expect(unpackNumbers(type, packed, [rows, width])).toEqual(decodeRows(type, encoded))
    }
  })
  test('a stack is its matrices one after another', () => {
    const matrices = [normals(20 * 32, 'a'), normals(20 * 32, 'b')].map((x) => encodeRows(type, x, 32))
    const stack = Buffer.concat(matrices.map((encoded) => packRows(type, encoded, 32)))
    expect(unpackNumbers(type, stack, [2, 20, 32])).toEqual(Float32Array.from(matrices.flatMap((encoded) => [...decodeRows(type, encoded)])))
  })
})

test('a row must be whole blocks', () => {
  expect(() => rowBytes('q4', 48)).toThrow('a row of 48 numbers is no whole number of q4 blocks')
})
