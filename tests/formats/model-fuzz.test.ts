/**
 * Thousands of damaged GGUF and safetensors files thrown at the readers: each is refused with an AppError that names the file, or opens and
 * gives tensors of the size its header says, soon and without a large allocation. The damage is drawn from one seed; a failure names its case.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeGguf } from '#core/formats/gguf.ts'
import { openGguf } from '#core/formats/gguf-read.ts'
import { openSafetensors, writeSafetensors } from '#core/formats/safetensors.ts'
import { AppError } from '#core/shared/errors.ts'
import { encodeRows } from '#core/shared/quantization.ts'
import { createRandom, type Random } from '#core/shared/random.ts'

const folder = mkdtempSync(join(tmpdir(), 'moe-model-fuzz-'))
const cases = 1500
const numbers = Float32Array.from({ length: 4 * 64 }, (_, i) => Math.sin(i))
const mostExtraBytes = 256 << 20

beforeAll(async () => {
  await writeGguf(join(folder, 'whole.gguf'), { 'general.architecture': { type: 'string', value: 'olmoe' }, count: { type: 'uint32', value: 7 }, words: { type: 'strings', value: ['a', 'bc', 'def'] }, floats: { type: 'float32s', value: [1, 2, 3] } }, [
    { name: 'a.weight', type: 'F32', shape: [4, 64], data: () => [new Uint8Array(numbers.buffer)] },
    { name: 'b.weight', type: 'Q4_0', shape: [2, 2, 64], data: () => [encodeRows('q4', numbers, 64)] },
    { name: 'c.weight', type: 'BF16', shape: [4, 64], data: () => [encodeRows('bf16', numbers, 64)] },
  ])
  await writeSafetensors(join(folder, 'whole.safetensors'), [{ name: 'a', shape: [4, 64], data: () => numbers }, { name: 'b', shape: [64, 4], dtype: 'BF16', data: () => numbers }], { format: 'pt' })
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const huge = [0xffffffffffffffffn, 0x7fffffffffffffffn, 1n << 53n, 1n << 40n, 1n << 31n, 1n << 24n, 0n]

/** One to three of: cut, a bit flipped, eight bytes of a huge number (lengths, counts, offsets), a piece repeated or taken out, a byte replaced. Most in the header. */
function damage(whole: Buffer, headerBytes: number, random: Random): Buffer {
  let bytes = Buffer.from(whole)
  for (let n = 1 + random.nextBelow(3); n > 0; n--) {
    const within = Math.min(bytes.length, random.nextBelow(5) > 0 ? headerBytes : bytes.length)
    if (within < 16) return bytes
    const at = random.nextBelow(within - 8)
    const length = 1 + random.nextBelow(48)
    const kind = random.nextBelow(6)
    if (kind === 0) bytes = bytes.subarray(0, at)
    else if (kind === 1) bytes[at]! ^= 1 << random.nextBelow(8)
    else if (kind === 2) bytes.writeBigUInt64LE(huge[random.nextBelow(huge.length)]!, at)
    else if (kind === 3) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at)])
    else if (kind === 4) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)])
    else bytes[at] = random.nextBelow(256)
  }
  return bytes
}

/** Damage that random bytes would hardly find: well-formed JSON or text that lies. */
const lies: Record<string, (text: string) => string> = {
  'a name twice': (text) => text.replace('"b"', '"a"'),
  'a shape of 2^53': (text) => text.replace('[4,64]', '[9007199254740993,1]'),
  'a negative size': (text) => text.replace('[4,64]', '[-4,-64]'),
  'offsets past the end': (text) => text.replace('[0,1024]', '[0,99999999]'),
  'overlapping tensors': (text) => text.replace('[1024,1536]', '[0,512]'),
  'a shape that is no list': (text) => text.replace('[4,64]', '"4x64"'),
  'a dtype of the prototype': (text) => text.replace('"F32"', '"constructor"'),
}

function readAll(name: string, path: string): void {
  if (name.endsWith('.gguf')) {
    const file = openGguf(path)
    try {
      for (const [tensor, { shape }] of file.entries) {
        const matrices = shape.slice(0, -2).reduce((a, b) => a * b, 1)
        expect(file.readMatrix(tensor, matrices - 1).length).toBe(shape.slice(-2).reduce((a, b) => a * b, 1))
      }
    } finally {
      file.close()
    }
    return
  }
  const file = openSafetensors(path)
  try {
    for (const [tensor, { dtype, shape }] of file.entries) if (/^(F|BF)/.test(dtype)) expect(file.readFloat32(tensor).length).toBe(shape.reduce((a, b) => a * b, 1))
  } finally {
    file.close()
  }
}

/** True when the file was refused as it should be. */
function isRefused(name: string, path: string, what: string): boolean {
  try {
    readAll(name, path)
    return false
  } catch (error) {
    if (error instanceof AppError) return true
    throw new Error(`${what}: ${String(error)}`, { cause: error })
  }
}

test.each(['whole.gguf', 'whole.safetensors'])(`${cases} damaged copies of %s`, (name) => {
  const whole = readFileSync(join(folder, name))
  const headerBytes = name.endsWith('.gguf') ? whole.length - 1024 - 160 - 512 : 8 + Number(whole.readBigUInt64LE())
  const path = join(folder, `damaged-${name}`)
  const before = process.memoryUsage()
  let [refused, largest] = [0, 0]
  for (let i = 0; i < cases; i++) {
    writeFileSync(path, damage(whole, headerBytes, createRandom(i, `fuzz/${name}`)))
    if (isRefused(name, path, `case ${i}`)) refused++
    const now = process.memoryUsage()
    largest = Math.max(largest, now.arrayBuffers + now.heapUsed - before.arrayBuffers - before.heapUsed)
  }
  process.stdout.write(`${name}: ${refused} of ${cases} damaged files refused, ${cases - refused} read as their headers say\n`)
  expect(refused).toBeGreaterThan(cases / 2)
  expect(largest).toBeLessThan(mostExtraBytes)
})

test.each(Object.keys(lies))('safetensors with %s', (lie) => {
  const whole = readFileSync(join(folder, 'whole.safetensors'))
  const headerBytes = Number(whole.readBigUInt64LE())
  const before = whole.toString('latin1', 8, 8 + headerBytes)
  const header = Buffer.from(lies[lie]!(before), 'latin1')
  expect(header.toString('latin1')).not.toBe(before)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  const path = join(folder, 'lie.safetensors')
  writeFileSync(path, Buffer.concat([length, header, whole.subarray(8 + headerBytes)]))
  expect(isRefused('lie.safetensors', path, lie)).toBe(true)
})
