/**
 * The file of a packed model, made to be mapped into memory (docs/formats.md): eight bytes that name the format, u64 length of a JSON
 * header, the header, and the tensors, each at a multiple of 4096 bytes. It holds bytes under names and knows nothing of their meaning
 * but the version of the layout. A file is untrusted: its header is checked whole before any use.
 */
import { closeSync, fstatSync, readSync } from 'node:fs'
import { z } from 'zod'
import { AppError } from '#core/shared/errors.ts'
import { writeFileAtomic, type WrittenFile } from './atomic.ts'
import { openForReading } from './open-file.ts'

export const packedFileName = 'model.packed'

const magic = 'moepack\n'
const alignmentBytes = 4096
const headerLimitBytes = 100_000_000

const dtypes = ['f32', 'bf16', 'q8', 'q4'] as const
const count = z.int().min(0)
const entrySchema = z.object({ dtype: z.enum(dtypes), shape: z.array(count.min(1)).min(1).max(4), byteOffset: count, sizeBytes: count })
const headerSchema = z.object({ layout: count, type: z.enum(['bf16', 'q8', 'q4']), tensors: z.record(z.string(), entrySchema) })

export type PackedEntry = z.output<typeof entrySchema>
export type PackedHeader = z.output<typeof headerSchema>

function damaged(path: string, what: string, params: Record<string, string | number> = {}): AppError {
  return new AppError('packed.damaged', `${path}: ${what}`, { params: { file: path, ...params }, hint: 'The file is damaged or not a packed model. Make it again with "moe quantize".' })
}

/** A tensor to write: its bytes come in pieces. */
export type PackedToWrite = { name: string; dtype: PackedEntry['dtype']; shape: readonly number[]; sizeBytes: number; data: () => Iterable<Uint8Array> | AsyncIterable<Uint8Array> }

const roundUp = (bytes: number): number => Math.ceil(bytes / alignmentBytes) * alignmentBytes

/** Header and data offset of a file; offsets depend on the header's own length, so it is padded to a length that is known first. */
function layOut(type: PackedHeader['type'], layout: number, tensors: readonly PackedToWrite[]): { head: Uint8Array; header: PackedHeader } {
  const make = (start: number): PackedHeader => {
    const header: PackedHeader = { layout, type, tensors: {} }
    let offset = start
    for (const { name, dtype, shape, sizeBytes } of tensors) {
      header.tensors[name] = { dtype, shape: [...shape], byteOffset: offset, sizeBytes }
      offset = roundUp(offset + sizeBytes)
    }
    return header
  }
  // Offsets of sixteen digits are longer than any real one.
  const start = roundUp(16 + Buffer.byteLength(JSON.stringify(make(1e15))))
  const header = make(start)
  const json = JSON.stringify(header)
  const head = Buffer.alloc(start, ' ')
  head.write(magic, 0, 'latin1')
  head.writeBigUInt64LE(BigInt(start - 16), 8)
  head.write(json, 16)
  return { head, header }
}

/** Writes a packed model atomically, tensor by tensor. */
export function writePackedFile(path: string, type: PackedHeader['type'], layout: number, tensors: readonly PackedToWrite[]): Promise<WrittenFile> {
  const { head } = layOut(type, layout, tensors)
  const chunks = async function* (): AsyncGenerator<Uint8Array> {
    yield head
    for (const { name, sizeBytes, data } of tensors) {
      let written = 0
      for await (const bytes of data()) {
        written += bytes.length
        yield bytes
      }
      if (written !== sizeBytes) throw new Error(`writePackedFile: ${name} has ${written} bytes, expected ${sizeBytes}`)
      yield new Uint8Array(roundUp(sizeBytes) - sizeBytes)
    }
  }
  return writeFileAtomic(path, chunks())
}

/** Reads and checks the header of a packed model. Throws AppError `packed.damaged`, `packed.layout` or `file.unreadable`. */
export function readPackedHeader(path: string, layout: number): PackedHeader {
  const file = openForReading(path)
  try {
    const fileBytes = fstatSync(file).size
    const head = Buffer.alloc(16)
    if (readSync(file, head, 0, 16, 0) < 16 || head.toString('latin1', 0, 8) !== magic) throw damaged(path, 'is not a packed model')
    const headerBytes = Number(head.readBigUInt64LE(8))
    if (headerBytes > Math.min(headerLimitBytes, fileBytes - 16)) throw damaged(path, `the header claims ${headerBytes} bytes, the file has ${fileBytes}`)
    const json = Buffer.alloc(headerBytes)
    if (readSync(file, json, 0, headerBytes, 16) < headerBytes) throw damaged(path, 'the file ends inside its header')
    return checkHeader(path, json.toString('utf8'), layout, fileBytes)
  } finally {
    closeSync(file)
  }
}

function checkHeader(path: string, text: string, layout: number, fileBytes: number): PackedHeader {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw damaged(path, 'the header is not JSON')
  }
  const parsed = headerSchema.safeParse(json)
  if (!parsed.success) throw damaged(path, `the header's ${parsed.error.issues[0]!.path.join('.')}: ${parsed.error.issues[0]!.message}`)
  const header = parsed.data
  if (header.layout !== layout) {
    throw new AppError('packed.layout', `${path} is laid out in version ${header.layout}, this program reads version ${layout}`, { params: { file: path, found: header.layout, expected: layout }, hint: 'Make it again from the original with "moe quantize".' })
  }
  for (const [name, { byteOffset, sizeBytes }] of Object.entries(header.tensors)) {
    if (byteOffset % alignmentBytes !== 0 || byteOffset + sizeBytes > fileBytes) throw damaged(path, `tensor ${name} lies at ${byteOffset}–${byteOffset + sizeBytes} of ${fileBytes} bytes`, { tensor: name })
  }
  return header
}
