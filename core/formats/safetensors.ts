/**
 * The safetensors format: u64 header length, JSON header, raw little-endian tensors. Reads one tensor at a time from disk, so
 * a file may be larger than memory; writes tensor by tensor. A file is untrusted: its header is checked whole before any use.
 */
import { closeSync, fstatSync, readSync } from 'node:fs'
import { AppError } from '#core/shared/errors.ts'
import { encodeRows, halfToFloat } from '#core/shared/quantization.ts'
import { writeFileAtomic, type WrittenFile } from './atomic.ts'
import { openForReading } from './open-file.ts'

const elementBytes = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 } as const
export type SafetensorsDtype = keyof typeof elementBytes
export type SafetensorsEntry = { dtype: SafetensorsDtype; shape: number[]; startByte: number; endByte: number }

const headerLimitBytes = 100_000_000

export type SafetensorsFile = {
  readonly path: string
  readonly entries: ReadonlyMap<string, SafetensorsEntry>
  readonly metadata: Readonly<Record<string, string>>
  /** A float tensor (F32, F16, BF16 or F64) as float32. */
  readFloat32(name: string): Float32Array
  /** An integer tensor as int32; values beyond are refused. */
  readInt32(name: string): Int32Array
  close(): void
}

function damaged(path: string, what: string, params: Record<string, string | number> = {}): AppError {
  return new AppError('safetensors.damaged', `${path}: ${what}`, { params: { file: path, ...params }, hint: 'The file is damaged or not safetensors. Fetch it again.' })
}

function checkEntry(path: string, name: string, raw: unknown, dataBytes: number): SafetensorsEntry {
  const { dtype, shape, data_offsets: offsets } = (raw ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown }
  const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
  if (typeof dtype !== 'string' || !(dtype in elementBytes)) throw damaged(path, `tensor ${name} has dtype ${String(dtype)}, expected one of ${Object.keys(elementBytes).join(', ')}`, { tensor: name })
  if (!Array.isArray(shape) || !shape.every(isCount)) throw damaged(path, `tensor ${name} has no proper shape`, { tensor: name })
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) throw damaged(path, `tensor ${name} has no proper data_offsets`, { tensor: name })
  const [startByte, endByte] = offsets as [number, number]
  const expected = (shape as number[]).reduce((a, b) => a * b, 1) * elementBytes[dtype as SafetensorsDtype]
  if (startByte > endByte || endByte > dataBytes) throw damaged(path, `tensor ${name} lies at ${startByte}–${endByte} of ${dataBytes} data bytes`, { tensor: name })
  if (endByte - startByte !== expected) throw damaged(path, `tensor ${name} has ${endByte - startByte} bytes, its shape needs ${expected}`, { tensor: name })
  return { dtype: dtype as SafetensorsDtype, shape: shape as number[], startByte, endByte }
}

/** Tensors must fill the data exactly: no overlap, no hole (the format's own rule, and what keeps hidden bytes out). */
function checkCoverage(path: string, entries: Map<string, SafetensorsEntry>, dataBytes: number): void {
  let end = 0
  for (const [name, entry] of [...entries].sort((a, b) => a[1].startByte - b[1].startByte || a[1].endByte - b[1].endByte)) {
    if (entry.startByte !== end) throw damaged(path, `tensor ${name} starts at ${entry.startByte}, expected ${end}`, { tensor: name })
    end = entry.endByte
  }
  if (end !== dataBytes) throw damaged(path, `${dataBytes - end} bytes after the last tensor`)
}

function readExactly(file: number, path: string, length: number, position: number): Buffer {
  const bytes = Buffer.allocUnsafe(length)
  let done = 0
  while (done < length) {
    const count = readSync(file, bytes, done, length - done, position + done)
    if (count === 0) throw damaged(path, `the file ends at byte ${position + done}`)
    done += count
  }
  return bytes
}

/** Opens a file and checks its whole header. Throws AppError `safetensors.damaged` or `file.unreadable`. */
export function openSafetensors(path: string): SafetensorsFile {
  const file = openForReading(path)
  try {
    return readHeader(file, path)
  } catch (error) {
    closeSync(file)
    throw error
  }
}

function readHeader(file: number, path: string): SafetensorsFile {
  const fileBytes = fstatSync(file).size
  if (fileBytes < 8) throw damaged(path, `the file has ${fileBytes} bytes, a header needs at least 8`)
  const headerBytes = Number(readExactly(file, path, 8, 0).readBigUInt64LE())
  if (headerBytes > Math.min(headerLimitBytes, fileBytes - 8)) throw damaged(path, `the header claims ${headerBytes} bytes, the file has ${fileBytes}`)
  let header: unknown
  try {
    header = JSON.parse(readExactly(file, path, headerBytes, 8).toString('utf8'))
  } catch (error) {
    throw error instanceof AppError ? error : damaged(path, 'the header is not JSON')
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) throw damaged(path, 'the header is not an object')
  const dataStart = 8 + headerBytes
  const entries = new Map<string, SafetensorsEntry>()
  const { __metadata__: metadata = {}, ...tensors } = header as Record<string, unknown>
  for (const [name, raw] of Object.entries(tensors)) entries.set(name, checkEntry(path, name, raw, fileBytes - dataStart))
  checkCoverage(path, entries, fileBytes - dataStart)

  const read = (name: string): { entry: SafetensorsEntry; bytes: Buffer } => {
    const entry = entries.get(name)
    if (!entry) throw damaged(path, `tensor ${name} is missing`, { tensor: name })
    return { entry, bytes: readExactly(file, path, entry.endByte - entry.startByte, dataStart + entry.startByte) }
  }
  return {
    path,
    entries,
    metadata: metadata as Record<string, string>,
    readFloat32(name) {
      const { entry, bytes } = read(name)
      const values = decodeFloats(entry.dtype, bytes)
      if (!values) throw damaged(path, `tensor ${name} is ${entry.dtype}, expected floats`, { tensor: name, found: entry.dtype })
      return values
    },
    readInt32(name) {
      const { entry, bytes } = read(name)
      return decodeInts(path, name, entry.dtype, bytes)
    },
    close: () => closeSync(file),
  }
}

function aligned(bytes: Buffer): ArrayBuffer {
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer
}

function decodeFloats(dtype: SafetensorsDtype, bytes: Buffer): Float32Array | null {
  if (dtype === 'F32') return new Float32Array(aligned(bytes))
  if (dtype === 'F64') return Float32Array.from(new Float64Array(aligned(bytes)))
  if (dtype === 'F16') return Float32Array.from(new Uint16Array(aligned(bytes)), halfToFloat)
  if (dtype !== 'BF16') return null
  const halves = new Uint16Array(aligned(bytes))
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16
  return new Float32Array(bits.buffer)
}

function decodeInts(path: string, name: string, dtype: SafetensorsDtype, bytes: Buffer): Int32Array {
  if (dtype === 'I32') return new Int32Array(aligned(bytes))
  if (dtype === 'U8' || dtype === 'BOOL') return Int32Array.from(bytes)
  if (dtype !== 'I64') throw damaged(path, `tensor ${name} is ${dtype}, expected integers`, { tensor: name, found: dtype })
  return Int32Array.from(new BigInt64Array(aligned(bytes)), (value, i) => {
    const number = Number(value)
    if (number !== (number | 0)) throw damaged(path, `tensor ${name}, element ${i}: ${value} does not fit 32 bits`, { tensor: name })
    return number
  })
}

/** A tensor to write: its shape is known before its numbers are. BF16 is rounded to here. */
export type TensorToWrite = { name: string; shape: readonly number[]; dtype?: 'F32' | 'BF16'; data: () => Float32Array | Promise<Float32Array> }

/** Writes float tensors atomically, one in memory at a time. */
export function writeSafetensors(path: string, tensors: readonly TensorToWrite[], metadata: Record<string, string> = {}): Promise<WrittenFile> {
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {}
  let offset = 0
  for (const { name, shape, dtype = 'F32' } of tensors) {
    const end = offset + elementBytes[dtype] * shape.reduce((a, b) => a * b, 1)
    header[name] = { dtype, shape, data_offsets: [offset, end] }
    offset = end
  }
  const json = JSON.stringify(header)
  const padded = json.padEnd(Math.ceil(Buffer.byteLength(json) / 8) * 8 - (Buffer.byteLength(json) - json.length))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(padded)))
  const chunks = async function* (): AsyncGenerator<Uint8Array | string> {
    yield length
    yield padded
    for (const { name, shape, dtype, data } of tensors) {
      const values = await data()
      const expected = shape.reduce((a, b) => a * b, 1)
      if (values.length !== expected) throw new Error(`writeSafetensors: ${name} has ${values.length} elements, its shape needs ${expected}`)
      yield dtype === 'BF16' ? encodeRows('bf16', values, Math.max(1, values.length)) : new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    }
  }
  return writeFileAtomic(path, chunks())
}
