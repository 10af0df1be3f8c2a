/** GGUF files, read back here by a reader written from the format's description. */
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ggufTensorBytes, writeGguf, type GgufType } from '#core/formats/gguf.ts'
import { decodeRows, encodeRows } from '#core/shared/quantization.ts'

const folder = mkdtempSync(join(tmpdir(), 'moe-gguf-'))
type Found = { metadata: Record<string, unknown>; tensors: Record<string, { dims: number[]; type: number; bytes: Uint8Array }> }

function readGguf(path: string, sizeOf: (type: number, dims: number[]) => number): Found {
  const file = readFileSync(path)
  let at = 0
  const u32 = (): number => file.readUInt32LE((at += 4) - 4)
  const u64 = (): number => Number(file.readBigUInt64LE((at += 8) - 8))
  const string = (): string => {
    const length = u64()
    return file.toString('utf8', at, (at += length))
  }
  const value = (type: number): unknown => {
    if (type === 4) return u32()
    if (type === 5) return file.readInt32LE((at += 4) - 4)
    if (type === 6) return file.readFloatLE((at += 4) - 4)
    if (type === 7) return file[at++] === 1
    if (type === 8) return string()
    if (type === 10) return file.readBigUInt64LE((at += 8) - 8)
    if (type !== 9) throw new Error(`value type ${type}`)
    const [of, count] = [u32(), u64()]
    return Array.from({ length: count }, () => value(of))
  }
  expect([file.toString('latin1', 0, 4), file.readUInt32LE(4)]).toEqual(['GGUF', 3])
  at = 8
  const [tensorCount, keyCount] = [u64(), u64()]
  const metadata = Object.fromEntries(Array.from({ length: keyCount }, () => [string(), value(u32())]))
  const infos = Array.from({ length: tensorCount }, () => ({ name: string(), dims: Array.from({ length: u32() }, u64), type: u32(), offset: u64() }))
  const start = Math.ceil(at / 32) * 32
  const tensors = Object.fromEntries(
    infos.map(({ name, dims, type, offset }) => {
      expect(offset % 32).toBe(0)
      return [name, { dims, type, bytes: new Uint8Array(file.subarray(start + offset, start + offset + sizeOf(type, dims))) }]
    }),
  )
  return { metadata, tensors }
}

const numbers = Float32Array.from({ length: 6 * 64 }, (_, i) => Math.sin(i))
const kinds: [GgufType, number, Uint8Array][] = [
  ['F32', 0, new Uint8Array(numbers.buffer)],
  ['BF16', 30, encodeRows('bf16', numbers, 64)],
  ['Q8_0', 8, encodeRows('q8', numbers, 64)],
  ['Q4_0', 2, encodeRows('q4', numbers, 64)],
]

test('metadata and tensors of every type come back', async () => {
  const path = join(folder, 'all.gguf')
  await writeGguf(
    path,
    {
      name: { type: 'string', value: 'é' }, count: { type: 'uint32', value: 7 }, minus: { type: 'int32', value: -3 }, half: { type: 'float32', value: 0.5 }, large: { type: 'uint64', value: 2n ** 40n },
      yes: { type: 'bool', value: true }, tokens: { type: 'strings', value: ['a', '', 'bc'] }, types: { type: 'int32s', value: [1, -1] }, scores: { type: 'float32s', value: [0.25] },
    },
    kinds.map(([type, , bytes]) => ({ name: type, type, shape: [2, 3, 64], data: () => [bytes.subarray(0, 10), bytes.subarray(10)] })),
  )
  const found = readGguf(path, (type, dims) => ggufTensorBytes(kinds.find(([, number]) => number === type)![0], dims.toReversed()))
  expect(found.metadata).toEqual({ name: 'é', count: 7, minus: -3, half: 0.5, large: 2n ** 40n, yes: true, tokens: ['a', '', 'bc'], types: [1, -1], scores: [0.25] })
  for (const [type, number, bytes] of kinds) expect(found.tensors[type]).toEqual({ dims: [64, 3, 2], type: number, bytes })
})

test('a Q4_0 block is a float16 scale and 16 bytes whose low halves come first', () => {
  const bytes = encodeRows('q4', Float32Array.from({ length: 32 }, (_, i) => (i < 16 ? -8 : 7)), 32)
  expect([...bytes]).toEqual([0x00, 0x3c, ...new Array<number>(16).fill(0xf0)])
  expect(decodeRows('q4', bytes)[31]).toBe(7)
})

test('a tensor of another size than its shape is refused', async () => {
  await expect(writeGguf(join(folder, 'short.gguf'), {}, [{ name: 'w', type: 'F32', shape: [2], data: () => [new Uint8Array(4)] }])).rejects.toThrow('w has 4 bytes, its shape needs 8')
})
