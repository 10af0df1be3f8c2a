/**
 * Decodes Parquet in a thread of its own, because a damaged file can send the decoder into a loop that only ending the thread ends.
 * Answers one request at a time: a file's shape, or the rows of one of its row groups. The other side is parquet.ts.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { parentPort } from 'node:worker_threads'
import { parquetMetadataAsync, parquetReadObjects, type AsyncBuffer, type FileMetaData } from 'hyparquet'
import { compressors } from 'hyparquet-compressors'

export type ParquetRequest = { path: string; sizeBytes: number; group: { index: number; columns: string[] | null } | null }
export type ParquetShape = { columns: string[]; groups: { rows: number; bytes: number }[] }
export type ParquetReply = { shape: ParquetShape } | { rows: unknown[] } | { damage: string } | { code: string; message: string }

const largestSliceBytes = 1 << 30
const mostRows = 1e9

function bufferOf(handle: FileHandle, sizeBytes: number): AsyncBuffer {
  return {
    byteLength: sizeBytes,
    async slice(start, end = sizeBytes) {
      const length = end - start
      if (!(start >= 0 && length >= 0 && end <= sizeBytes && length <= largestSliceBytes)) throw new Error(`a reference to bytes ${start} to ${end} of ${sizeBytes}`)
      const bytes = new ArrayBuffer(length)
      const { bytesRead } = await handle.read(new Uint8Array(bytes), 0, length, start)
      if (bytesRead !== length) throw new Error(`the end of the file at byte ${start + bytesRead}`)
      return bytes
    },
  }
}

/** Numbers as JSON knows them, dates as text: what any other reader gives. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Uint8Array || value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
}

function shapeOf(metadata: FileMetaData): ParquetShape {
  const groups = metadata.row_groups.map((group) => ({ rows: Number(group.num_rows), bytes: Number(group.total_byte_size) }))
  const total = groups.reduce((sum, { rows }) => sum + rows, 0)
  if (metadata.schema.length < 2 || total > mostRows || groups.some(({ rows }) => !(rows >= 0))) throw new Error('a footer without sense')
  return { columns: metadata.schema.slice(1).map(({ name }) => name), groups }
}

async function answer({ path, sizeBytes, group }: ParquetRequest): Promise<ParquetReply> {
  const handle = await open(path, 'r')
  try {
    const file = bufferOf(handle, sizeBytes)
    const metadata = await parquetMetadataAsync(file)
    const shape = shapeOf(metadata)
    if (group === null) return { shape }
    const rowStart = shape.groups.slice(0, group.index).reduce((sum, { rows }) => sum + rows, 0)
    const rowEnd = rowStart + shape.groups[group.index]!.rows
    const rows = await parquetReadObjects({ file, metadata, rowStart, rowEnd, compressors, ...(group.columns && { columns: group.columns }) })
    if (rows.length !== rowEnd - rowStart) throw new Error(`${rows.length} rows of ${rowEnd - rowStart}`)
    return { rows: rows.map(plain) }
  } finally {
    await handle.close()
  }
}

// Its decoder throws plain Errors; what the file system throws has a code.
parentPort!.on('message', (request: ParquetRequest) => {
  answer(request).then(
    (reply) => parentPort!.postMessage(reply),
    (error: unknown) => {
      const { code, message } = error as NodeJS.ErrnoException
      parentPort!.postMessage(code?.startsWith('E') ? { code, message } : { damage: String(message) })
    },
  )
})
