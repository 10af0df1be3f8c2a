/**
 * Rows of a .parquet file, a row group at a time and of that only the columns that are asked for, so memory is bounded by the largest
 * row group's text. It is decoded in a worker thread, which is ended when it takes longer than any whole file could (parquet-worker.ts).
 */
import { stat } from 'node:fs/promises'
import { Worker } from 'node:worker_threads'
import { workerPath } from '../worker-path.ts'
import { requireUnchanged } from './bytes.ts'
import { asReadError, fileError } from './errors.ts'
import type { SourceFile } from './files.ts'
import type { ParquetReply, ParquetRequest } from './parquet-worker.ts'
import type { Row } from './rows.ts'

/** A request may take this long, and longer by its bytes at a rate that every machine reaches. */
const limitMs = 4000
const slowestBytesPerMs = 2000

let worker: Worker | null = null
let last: Promise<unknown> = Promise.resolve()

/** One request after the other; the thread keeps no process alive and is started again after it had to be ended. */
function ask(request: ParquetRequest, bytes: number): Promise<ParquetReply> {
  const answered = last.then(() => askNow(request, limitMs + bytes / slowestBytesPerMs))
  last = answered.catch(() => undefined)
  return answered
}

function askNow(request: ParquetRequest, timeoutMs: number): Promise<ParquetReply> {
  const asked = (worker ??= new Worker(workerPath('readers/parquet-worker')))
  return new Promise((resolve) => {
    const onMessage = (reply: ParquetReply): void => finish(reply, true)
    const onError = (error: Error): void => finish({ damage: error.message }, false)
    const onExit = (): void => finish({ damage: 'data that ended its decoder' }, false)
    function finish(reply: ParquetReply, isUsable: boolean): void {
      clearTimeout(timer)
      asked.off('message', onMessage).off('exit', onExit)
      if (isUsable) {
        asked.off('error', onError)
        asked.unref()
      } else {
        // Its late errors concern nobody.
        worker = null
        void asked.terminate()
      }
      resolve(reply)
    }
    const timer = setTimeout(() => finish({ damage: 'data that cannot be decoded in any sensible time' }, false), timeoutMs)
    asked.on('message', onMessage).on('error', onError).on('exit', onExit)
    asked.ref()
    asked.postMessage(request)
  })
}

async function expectReply<K extends 'shape' | 'rows'>(file: SourceFile, key: K, row: number | null, reply: ParquetReply): Promise<Extract<ParquetReply, Record<K, unknown>>[K]> {
  if (key in reply) return (reply as Extract<ParquetReply, Record<K, unknown>>)[key]
  if ('code' in reply) throw asReadError(Object.assign(new Error(reply.message), { code: reply.code }), file.name)
  const found = 'damage' in reply ? reply.damage : 'an answer to something else'
  throw fileError('source.damagedFile', file.name, found, 'a whole Parquet file', 'Download or write it again; compare its size or checksum with the original.', row)
}

async function stillThere(file: SourceFile): Promise<void> {
  try {
    requireUnchanged(file, await stat(file.path))
  } catch (error) {
    throw asReadError(error, file.name)
  }
}

/** The file's rows; `columns` are top-level names, null reads all. */
export async function* readParquetRows(file: SourceFile, columns: readonly string[] | null): AsyncGenerator<Row> {
  if (file.sizeBytes === 0) throw fileError('source.emptyFile', file.name, 'no bytes', 'a Parquet file', 'Take the file out of the source.')
  if (file.compression !== 'none') throw fileError('source.wrongFormat', file.name, 'a packed Parquet file', 'a .parquet file as it is', 'Parquet is compressed inside: unpack it first.')
  await stillThere(file)
  const { path, sizeBytes } = file
  const shape = await expectReply(file, 'shape', null, await ask({ path, sizeBytes, group: null }, 0))
  const areThere = columns?.every((column) => shape.columns.includes(column)) ?? false
  let first = 0
  for (const [index, { rows: count }] of shape.groups.entries()) {
    const rows = await expectReply(file, 'rows', first + 1, await ask({ path, sizeBytes, group: { index, columns: areThere ? [...columns!] : null } }, sizeBytes))
    for (const [i, value] of rows.entries()) yield { row: first + i + 1, value }
    first += count
    file.onRead?.(Math.round((sizeBytes * (index + 1)) / shape.groups.length))
  }
  await stillThere(file)
}
