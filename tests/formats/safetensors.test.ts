/** Safetensors: a file that PyTorch wrote, a round trip, tensors of every kind, and headers that lie. */
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openSafetensors, writeSafetensors } from '#core/formats/safetensors.ts'
import { createRandom } from '#core/shared/random.ts'

const folder = mkdtempSync(join(tmpdir(), 'moe-safetensors-'))
const tiny = join(import.meta.dirname, '../fixtures/oracle/tiny')

/** A file with this header and so many data bytes. */
function craft(name: string, header: unknown, dataBytes: number | Uint8Array, claimedBytes?: bigint): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(claimedBytes ?? BigInt(json.length))
  const path = join(folder, `${name}.safetensors`)
  writeFileSync(path, Buffer.concat([length, json, typeof dataBytes === 'number' ? Buffer.alloc(dataBytes) : dataBytes]))
  return path
}

test('reads what PyTorch wrote', () => {
  const file = openSafetensors(join(tiny, 'model/model.safetensors'))
  const embedding = file.entries.get('model.embed_tokens.weight')
  expect(embedding?.dtype).toBe('F32')
  const values = file.readFloat32('model.embed_tokens.weight')
  expect(values).toHaveLength(embedding!.shape.reduce((a, b) => a * b, 1))
  expect(values.every(Number.isFinite)).toBe(true)
  expect(new Set(values).size).toBeGreaterThan(100)
  expect(() => file.readFloat32('model.nothing')).toThrow(/model\.nothing is missing/)
  file.close()
  const forward = openSafetensors(join(tiny, 'forward.safetensors'))
  expect(forward.entries.get('input_ids')?.dtype).toBe('I64')
  expect(Math.min(...forward.readInt32('input_ids'))).toBeGreaterThanOrEqual(0)
  forward.close()
})

test('written and read back it is the same, tensor by tensor, with its metadata', async () => {
  const path = join(folder, 'written.safetensors')
  const random = createRandom(1, 'tensor')
  const tensors = [{ name: 'a', shape: [3, 5] }, { name: 'empty', shape: [0, 7] }, { name: 'ünï', shape: [11] }, { name: 'scalar', shape: [] }].map((tensor) => {
    const values = Float32Array.from({ length: tensor.shape.reduce((a, b) => a * b, 1) }, () => random.nextNormal())
    return { ...tensor, values, data: () => Promise.resolve(values) }
  })
  const written = await writeSafetensors(path, tensors, { format: 'pt' })
  expect(written.sizeBytes).toBe(readFileSync(path).length)
  expect(readFileSync(path).readBigUInt64LE() % 8n).toBe(0n)
  const file = openSafetensors(path)
  expect(file.metadata).toEqual({ format: 'pt' })
  for (const { name, shape, values } of tensors) {
    expect(file.entries.get(name)?.shape).toEqual(shape)
    expect(file.readFloat32(name)).toEqual(values)
  }
  file.close()
  expect(readdirSync(folder).filter((name) => name.startsWith('.tmp'))).toEqual([])
})

test('a write that fails leaves what was there', async () => {
  const path = join(folder, 'kept.safetensors')
  await writeSafetensors(path, [{ name: 'a', shape: [2], data: () => new Float32Array([1, 2]) }])
  const before = readFileSync(path)
  const failing = [{ name: 'a', shape: [2], data: () => Promise.reject(new Error('no tensor')) }]
  await expect(writeSafetensors(path, failing)).rejects.toThrow('no tensor')
  await expect(writeSafetensors(path, [{ name: 'a', shape: [3], data: () => new Float32Array(2) }])).rejects.toThrow(/a has 2 elements/)
  expect(readFileSync(path).equals(before)).toBe(true)
  expect(readdirSync(folder).filter((name) => name.startsWith('.tmp'))).toEqual([])
})

test('half and brain floats are exact; integers that do not fit are refused', () => {
  const halves = new Uint16Array([0x3c00, 0xc000, 0x7bff, 0x0001, 0x8000, 0x7c00, 0x3555])
  const half = openSafetensors(craft('f16', { x: { dtype: 'F16', shape: [7], data_offsets: [0, 14] } }, new Uint8Array(halves.buffer)))
  expect([...half.readFloat32('x')]).toEqual([1, -2, 65504, 2 ** -24, -0, Infinity, 0.333251953125])
  half.close()
  const brains = new Uint16Array([0x3f80, 0xc020, 0x7f7f, 0x0001])
  const brain = openSafetensors(craft('bf16', { x: { dtype: 'BF16', shape: [4], data_offsets: [0, 8] } }, new Uint8Array(brains.buffer)))
  expect([...brain.readFloat32('x')]).toEqual([1, -2.5, 3.3895313892515355e38, 2 ** -133])
  expect(() => brain.readInt32('x')).toThrow(/BF16, expected integers/)
  brain.close()
  const longs = new BigInt64Array([5n, -3n, 2n ** 31n])
  const long = openSafetensors(craft('i64', { x: { dtype: 'I64', shape: [2], data_offsets: [0, 16] }, y: { dtype: 'I64', shape: [1], data_offsets: [16, 24] } }, new Uint8Array(longs.buffer)))
  expect([...long.readInt32('x')]).toEqual([5, -3])
  expect(() => long.readInt32('y')).toThrow(/does not fit 32 bits/)
  long.close()
})

const f32 = (shape: unknown, start: number, end: number, dtype = 'F32') => ({ dtype, shape, data_offsets: [start, end] })
const lies: [what: string, path: () => string, said: RegExp][] = [
  ['shorter than a length', () => { const path = join(folder, 'short.safetensors'); writeFileSync(path, 'abc'); return path }, /3 bytes/],
  ['a header longer than the file', () => craft('long', '{}', 0, 1000n), /claims 1000 bytes/],
  ['a header of 2⁶⁴−1 bytes', () => craft('huge', '{}', 0, 2n ** 64n - 1n), /claims/],
  ['no JSON', () => craft('nojson', '{"a":', 0), /not JSON/],
  ['a list', () => craft('list', [], 0), /not an object/],
  ['an unknown dtype', () => craft('dtype', { a: f32([1], 0, 4, 'F31') }, 4), /tensor a has dtype F31/],
  ['a dtype from Object.prototype', () => craft('proto', { a: f32([1], 0, 4, 'toString') }, 4), /tensor a/],
  ['a negative size', () => craft('negative', { a: f32([-1], 0, 4) }, 4), /no proper shape/],
  ['a fractional size', () => craft('fraction', { a: f32([1.5], 0, 6) }, 6), /no proper shape/],
  ['offsets beyond the data', () => craft('beyond', { a: f32([4], 0, 16) }, 8), /0–16 of 8/],
  ['offsets backwards', () => craft('backwards', { a: f32([1], 4, 0) }, 4), /4–0/],
  ['a shape that needs more bytes', () => craft('shape', { a: f32([3], 0, 8) }, 8), /8 bytes, its shape needs 12/],
  ['a shape whose product overflows', () => craft('overflow', { a: f32([2 ** 30, 2 ** 30, 2 ** 30], 0, 4) }, 4), /its shape needs/],
  ['overlapping tensors', () => craft('overlap', { a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12), /b starts at 4, expected 8/],
  ['a hole', () => craft('hole', { a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12), /b starts at 8, expected 4/],
  ['bytes after the last tensor', () => craft('tail', { a: f32([1], 0, 4) }, 8), /4 bytes after/],
  ['no offsets', () => craft('none', { a: { dtype: 'F32', shape: [1] } }, 4), /no proper data_offsets/],
  ['null for a tensor', () => craft('null', { a: null }, 0), /tensor a/],
]

test.each(lies)('refuses %s', (_what, path, said) => {
  expect(() => openSafetensors(path())).toThrow(said)
})

test('a file that is not there is named', () => {
  expect(() => openSafetensors(join(folder, 'absent.safetensors'))).toThrow(/absent\.safetensors/)
})
