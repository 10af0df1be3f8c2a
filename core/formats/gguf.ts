/**
 * Writes GGUF files (version 3 of the format): typed metadata, then tensors of F32, BF16, Q8_0 or Q4_0, streamed one after another.
 * Shapes are given as everywhere here, slowest axis first; GGUF lists them the other way round. It knows no architecture: names of
 * keys and tensors are the caller's.
 */
import { rowBytes, type BlockType } from '#core/shared/quantization.ts'
import { writeFileAtomic, type WrittenFile } from './atomic.ts'

export type GgufType = 'F32' | 'BF16' | 'Q8_0' | 'Q4_0'

/** A metadata value with its type in the file. Arrays hold one type. */
export type GgufValue =
  | { type: 'uint32' | 'int32' | 'float32'; value: number }
  | { type: 'uint64'; value: bigint }
  | { type: 'bool'; value: boolean }
  | { type: 'string'; value: string }
  | { type: 'strings'; value: readonly string[] }
  | { type: 'int32s' | 'float32s'; value: readonly number[] }

export type GgufTensor = { name: string; type: GgufType; shape: readonly number[]; data: () => Iterable<Uint8Array> | AsyncIterable<Uint8Array> }

const alignmentBytes = 32
const valueTypes = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9, uint64: 10 } as const
const tensorTypes: Record<GgufType, number> = { F32: 0, Q4_0: 2, Q8_0: 8, BF16: 30 }
const blockTypes: Record<Exclude<GgufType, 'F32'>, BlockType> = { BF16: 'bf16', Q8_0: 'q8', Q4_0: 'q4' }

/** Bytes of a tensor in the file. */
export function ggufTensorBytes(type: GgufType, shape: readonly number[]): number {
  const width = shape.at(-1)!
  const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1)
  return rows * (type === 'F32' ? 4 * width : rowBytes(blockTypes[type], width))
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
function uint64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([uint64(bytes.length), bytes])
}
const int32s = (values: readonly number[]): Buffer => Buffer.from(Int32Array.from(values).buffer)
const float32s = (values: readonly number[]): Buffer => Buffer.from(Float32Array.from(values).buffer)

function encodeValue(of: GgufValue): Buffer {
  const array = (type: number, count: number, bytes: Buffer[]): Buffer => Buffer.concat([uint32(valueTypes.array), uint32(type), uint64(count), ...bytes])
  switch (of.type) {
    case 'uint32': return Buffer.concat([uint32(valueTypes.uint32), uint32(of.value)])
    case 'int32': return Buffer.concat([uint32(valueTypes.int32), int32s([of.value])])
    case 'float32': return Buffer.concat([uint32(valueTypes.float32), float32s([of.value])])
    case 'uint64': return Buffer.concat([uint32(valueTypes.uint64), uint64(of.value)])
    case 'bool': return Buffer.concat([uint32(valueTypes.bool), Buffer.of(Number(of.value))])
    case 'string': return Buffer.concat([uint32(valueTypes.string), text(of.value)])
    case 'strings': return array(valueTypes.string, of.value.length, of.value.map(text))
    case 'int32s': return array(valueTypes.int32, of.value.length, [int32s(of.value)])
    case 'float32s': return array(valueTypes.float32, of.value.length, [float32s(of.value)])
  }
}

const padding = (bytes: number): number => (alignmentBytes - (bytes % alignmentBytes)) % alignmentBytes

/** Writes a file atomically, one tensor in memory at a time. */
export function writeGguf(path: string, metadata: Readonly<Record<string, GgufValue>>, tensors: readonly GgufTensor[]): Promise<WrittenFile> {
  const keys = Object.entries(metadata)
  let offset = 0
  const infos = tensors.map(({ name, type, shape }) => {
    const info = Buffer.concat([text(name), uint32(shape.length), ...shape.toReversed().map(uint64), uint32(tensorTypes[type]), uint64(offset)])
    const bytes = ggufTensorBytes(type, shape)
    offset += bytes + padding(bytes)
    return info
  })
  const head = Buffer.concat([Buffer.from('GGUF'), uint32(3), uint64(tensors.length), uint64(keys.length), ...keys.map(([key, value]) => Buffer.concat([text(key), encodeValue(value)])), ...infos])
  const chunks = async function* (): AsyncGenerator<Uint8Array> {
    yield head
    yield new Uint8Array(padding(head.length))
    for (const { name, type, shape, data } of tensors) {
      const expected = ggufTensorBytes(type, shape)
      let written = 0
      for await (const bytes of data()) {
        written += bytes.length
        yield bytes
      }
      if (written !== expected) throw new Error(`writeGguf: ${name} has ${written} bytes, its shape needs ${expected}`)
      yield new Uint8Array(padding(expected))
    }
  }
  return writeFileAtomic(path, chunks())
}
