/** The packed file: a round trip, and headers that lie. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readPackedHeader, writePackedFile, type PackedToWrite } from '#core/formats/packed-file.ts'

const folder = mkdtempSync(join(tmpdir(), 'moe-packed-'))
const tensor = (name: string, bytes: Uint8Array): PackedToWrite => ({ name, dtype: 'q8', shape: [bytes.length], sizeBytes: bytes.length, data: () => [bytes.subarray(0, 3), bytes.subarray(3)] })

test('what is written is found where the header says, at page boundaries', async () => {
  const path = join(folder, 'written')
  const [a, b] = [Uint8Array.from({ length: 5000 }, (_, i) => i), Uint8Array.of(9, 8, 7, 6)]
  const { sizeBytes } = await writePackedFile(path, 'q8', 1, [tensor('a', a), tensor('b', b)])
  const header = readPackedHeader(path, 1)
  const bytes = readFileSync(path)
  expect(bytes.length).toBe(sizeBytes)
  for (const [name, expected] of [['a', a], ['b', b]] as const) {
    const { byteOffset, sizeBytes: size } = header.tensors[name]!
    expect(byteOffset % 4096).toBe(0)
    expect(new Uint8Array(bytes.subarray(byteOffset, byteOffset + size))).toEqual(expected)
  }
  expect(header.type).toBe('q8')
})

test('a tensor of another size than announced is refused', async () => {
  await expect(writePackedFile(join(folder, 'short'), 'q8', 1, [{ ...tensor('a', new Uint8Array(10)), sizeBytes: 11 }])).rejects.toThrow('a has 10 bytes, expected 11')
})

function craft(name: string, json: string, dataBytes = 0, claimed = json.length): string {
  const head = Buffer.alloc(16)
  head.write('moepack\n', 0, 'latin1')
  head.writeBigUInt64LE(BigInt(claimed), 8)
  const path = join(folder, name)
  writeFileSync(path, Buffer.concat([head, Buffer.from(json), Buffer.alloc(dataBytes)]))
  return path
}
const header = (entry: object, layout = 1): string => JSON.stringify({ layout, type: 'q4', tensors: { a: { dtype: 'q4', shape: [16, 32], byteOffset: 0, sizeBytes: 288, ...entry } } })

test.each<[string, () => string, string, string]>([
  ['a header longer than the file', () => craft('long', '{}', 0, 999), 'packed.damaged', 'the header claims 999 bytes'],
  ['no JSON', () => craft('json', '{'), 'packed.damaged', 'the header is not JSON'],
  ['a tensor past the end', () => craft('past', header({ byteOffset: 4096 }), 4096), 'packed.damaged', 'tensor a lies at 4096–4384'],
  ['a tensor off a page boundary', () => craft('off', header({ byteOffset: 64 }), 4096), 'packed.damaged', 'tensor a lies at 64–352'],
  ['an unknown type', () => craft('type', header({ dtype: 'q3' }), 4096), 'packed.damaged', 'tensors.a.dtype'],
  ['a negative size', () => craft('negative', header({ sizeBytes: -1 }), 4096), 'packed.damaged', 'tensors.a.sizeBytes'],
  ['another layout', () => craft('layout', header({}, 7), 4096), 'packed.layout', 'is laid out in version 7, this program reads version 1'],
  ['no file', () => join(folder, 'nothing'), 'file.unreadable', 'cannot be read'],
])('%s is refused', (_, make, code, message) => {
  expect(() => readPackedHeader(make(), 1)).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }))
})

test('another file is refused', () => {
  const path = join(folder, 'other')
  writeFileSync(path, Buffer.alloc(100))
  expect(() => readPackedHeader(path, 1)).toThrow('is not a packed model')
})
