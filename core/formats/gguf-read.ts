/**
 * Reads GGUF files (versions 2 and 3): metadata, and tensors of F32, F16, BF16, Q8_0 and Q4_0 row by row, from a file that may be larger
 * than memory. It knows no architecture. A file is untrusted: every count, length, offset and size is held against the file before
 * anything is allocated, and what does not agree is refused by name.
 */
import { closeSync, fstatSync, readSync } from 'node:fs'
import { AppError } from '#core/shared/errors.ts'
import { blockBytes, decodeRows, halfToFloat, type BlockType } from '#core/shared/quantization.ts'
import { openForReading } from './open-file.ts'

export type GgufReadable = 'F32' | 'F16' | 'BF16' | 'Q8_0' | 'Q4_0'
export type GgufScalar = number | bigint | boolean | string
/** A tensor's place; shapes are slowest axis first, as everywhere here. */
export type GgufEntry = { type: GgufReadable; shape: number[]; byteOffset: number; sizeBytes: number }

export type GgufFile = {
  readonly path: string
  readonly metadata: ReadonlyMap<string, GgufScalar | readonly GgufScalar[]>
  readonly entries: ReadonlyMap<string, GgufEntry>
  /** Matrix `index` of a stack (all axes but the last two), as float32. */
  readMatrix(name: string, index: number): Float32Array
  /** Its encoded rows, where the file holds them in `type`; null when it holds another. */
  readRows(name: string, index: number, type: BlockType): Uint8Array | null
  close(): void
}

const [countLimit, stringLimitBytes, rankLimit] = [1 << 24, 1 << 24, 4]
const typeNames = new Map<number, GgufReadable>([[0, 'F32'], [1, 'F16'], [2, 'Q4_0'], [8, 'Q8_0'], [30, 'BF16']])
const blocks: Record<GgufReadable, { width: number; bytes: number }> = {
  F32: { width: 1, bytes: 4 }, F16: { width: 1, bytes: 2 }, BF16: { width: 1, bytes: 2 }, Q8_0: { width: 32, bytes: blockBytes.q8 }, Q4_0: { width: 32, bytes: blockBytes.q4 },
}
const blockTypes: Partial<Record<GgufReadable, BlockType>> = { BF16: 'bf16', Q8_0: 'q8', Q4_0: 'q4' }

function damaged(path: string, what: string): AppError {
  return new AppError('gguf.damaged', `${path}: ${what}`, { params: { file: path, found: what }, hint: 'The file is damaged or not GGUF. Fetch it again.' })
}

function readExactly(file: number, path: string, length: number, position: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  for (let done = 0; done < length; ) {
    const count = readSync(file, bytes, done, length - done, position + done)
    if (count === 0) throw damaged(path, `the file ends at byte ${position + done}`)
    done += count
  }
  return bytes
}

/** A place in the file that moves on with every value read from it; reads ahead in windows. */
function createCursor(file: number, path: string, fileBytes: number) {
  let window: Buffer = Buffer.alloc(0)
  let [start, at] = [0, 0]
  const take = (length: number): Buffer => {
    if (at + length > fileBytes) throw damaged(path, `the header wants ${length} bytes at ${at}, the file has ${fileBytes}`)
    if (at < start || at + length > start + window.length) {
      start = at
      window = readExactly(file, path, Math.min(Math.max(length, 1 << 20), fileBytes - at), at)
    }
    const bytes = window.subarray(at - start, at - start + length)
    at += length
    return bytes
  }
  const uint32 = (): number => take(4).readUInt32LE()
  const uint64 = (): bigint => take(8).readBigUInt64LE()
  /** A count or a size: one that is no safe integer up to `limit` is damage. */
  const count = (what: string, limit: number): number => {
    const value = uint64()
    if (value > BigInt(limit)) throw damaged(path, `${what} is ${value}, more than ${limit}`)
    return Number(value)
  }
  const text = (what: string): string => take(count(`length of ${what}`, stringLimitBytes)).toString('utf8')
  return { take, uint32, uint64, count, text, position: () => at }
}
type Cursor = ReturnType<typeof createCursor>

function readScalar(cursor: Cursor, type: number, key: string, path: string): GgufScalar {
  switch (type) {
    case 0: return cursor.take(1).readUInt8()
    case 1: return cursor.take(1).readInt8()
    case 2: return cursor.take(2).readUInt16LE()
    case 3: return cursor.take(2).readInt16LE()
    case 4: return cursor.uint32()
    case 5: return cursor.take(4).readInt32LE()
    case 6: return cursor.take(4).readFloatLE()
    case 7: return cursor.take(1).readUInt8() !== 0
    case 8: return cursor.text(key)
    case 10: return cursor.uint64()
    case 11: return cursor.take(8).readBigInt64LE()
    case 12: return cursor.take(8).readDoubleLE()
    default: throw damaged(path, `${key} has value type ${type}, which GGUF does not have`)
  }
}

function readValue(cursor: Cursor, key: string, path: string): GgufScalar | GgufScalar[] {
  const type = cursor.uint32()
  if (type !== 9) return readScalar(cursor, type, key, path)
  const inner = cursor.uint32()
  const values: GgufScalar[] = []
  // One by one: a length that lies runs into the file's end, not into memory.
  for (let left = cursor.count(`length of ${key}`, countLimit); left > 0; left--) values.push(readScalar(cursor, inner, key, path))
  return values
}

/** Type and shape of one tensor with its offset in the data; checked against the data's place later, when that is known. */
function readEntry(cursor: Cursor, path: string): { name: string; entry: GgufEntry } {
  const name = cursor.text('a tensor name')
  const rank = cursor.uint32()
  if (rank < 1 || rank > rankLimit) throw damaged(path, `tensor ${name} has ${rank} dimensions, expected 1 to ${rankLimit}`)
  const shape = Array.from({ length: rank }, () => cursor.count(`a dimension of ${name}`, 2 ** 31)).reverse()
  const code = cursor.uint32()
  const type = typeNames.get(code)
  if (type === undefined) {
    throw new AppError('gguf.unsupported', `${path}: tensor ${name} has type ${code}, expected one of ${[...typeNames.values()].join(', ')}`, { params: { file: path, tensor: name, found: code }, hint: 'Take a file in BF16, F16, Q8_0 or Q4_0; other quantizations are not read.' })
  }
  const elements = shape.reduce((a, b) => a * b, 1)
  const { width, bytes } = blocks[type]
  if (elements === 0 || !Number.isSafeInteger(elements) || shape.at(-1)! % width !== 0) throw damaged(path, `tensor ${name} has shape [${shape.join(', ')}], rows of ${type} are whole blocks of ${width}`)
  return { name, entry: { type, shape, byteOffset: cursor.count(`offset of ${name}`, Number.MAX_SAFE_INTEGER), sizeBytes: (elements / width) * bytes } }
}

function readHeader(file: number, path: string): Pick<GgufFile, 'metadata' | 'entries'> {
  const fileBytes = fstatSync(file).size
  if (fileBytes < 24) throw damaged(path, `the file has ${fileBytes} bytes, a header needs at least 24`)
  const cursor = createCursor(file, path, fileBytes)
  if (cursor.take(4).toString('latin1') !== 'GGUF') throw damaged(path, 'does not begin with GGUF')
  const version = cursor.uint32()
  if (version !== 2 && version !== 3) throw damaged(path, `is version ${version}, expected 2 or 3`)
  const [tensors, keys] = [cursor.count('the number of tensors', countLimit), cursor.count('the number of keys', countLimit)]
  const metadata = new Map<string, GgufScalar | GgufScalar[]>()
  for (let i = 0; i < keys; i++) {
    const key = cursor.text('a key')
    if (metadata.has(key)) throw damaged(path, `${key} stands there twice`)
    metadata.set(key, readValue(cursor, key, path))
  }
  const entries = new Map<string, GgufEntry>()
  for (let i = 0; i < tensors; i++) {
    const { name, entry } = readEntry(cursor, path)
    if (entries.has(name)) throw damaged(path, `tensor ${name} stands there twice`)
    entries.set(name, entry)
  }
  const alignment = metadata.get('general.alignment') ?? 32
  if (typeof alignment !== 'number' || alignment < 1 || alignment > 1 << 20 || (alignment & (alignment - 1)) !== 0) throw damaged(path, `general.alignment is ${String(alignment)}`)
  const dataStart = Math.ceil(cursor.position() / alignment) * alignment
  let end = 0
  for (const [name, entry] of [...entries].sort((a, b) => a[1].byteOffset - b[1].byteOffset)) {
    if (entry.byteOffset < end || entry.byteOffset % alignment !== 0) throw damaged(path, `tensor ${name} lies at ${entry.byteOffset}, expected a multiple of ${alignment} from ${end} on`)
    end = entry.byteOffset + entry.sizeBytes
    if (dataStart + end > fileBytes) throw damaged(path, `tensor ${name} ends at byte ${dataStart + end}, the file has ${fileBytes}`)
    entry.byteOffset += dataStart
  }
  return { metadata, entries }
}

function decode(type: GgufReadable, bytes: Buffer): Float32Array {
  const block = blockTypes[type]
  if (block !== undefined) return decodeRows(block, bytes)
  if (type === 'F32') return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => halfToFloat(bytes.readUInt16LE(2 * i)))
}

/** Opens a file and checks its whole header. Throws AppError `gguf.damaged`, `gguf.unsupported` or `file.unreadable`. */
export function openGguf(path: string): GgufFile {
  const file = openForReading(path)
  try {
    const header = readHeader(file, path)
    const read = (name: string, index: number): { type: GgufReadable; bytes: Buffer } => {
      const entry = header.entries.get(name)
      if (entry === undefined) throw new Error(`openGguf: ${path} has no tensor ${name}`)
      const matrices = entry.shape.slice(0, -2).reduce((a, b) => a * b, 1)
      const sizeBytes = entry.sizeBytes / matrices
      return { type: entry.type, bytes: readExactly(file, path, sizeBytes, entry.byteOffset + index * sizeBytes) }
    }
    return {
      path,
      ...header,
      readMatrix: (name, index) => {
        const { type, bytes } = read(name, index)
        return decode(type, bytes)
      },
      readRows: (name, index, type) => (blockTypes[header.entries.get(name)!.type] === type ? read(name, index).bytes : null),
      close: () => closeSync(file),
    }
  } catch (error) {
    closeSync(file)
    throw error
  }
}
