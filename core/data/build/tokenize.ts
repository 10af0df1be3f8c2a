/**
 * The first half of a build: reads the sources once, cuts their documents into shards of some megabytes, in order, and has threads make
 * them. What a shard holds depends on the documents alone, not on threads or on where an earlier build stopped: a finished shard of the
 * same texts is taken as it is.
 */
import { createHash } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import type { FilterSettings } from '#core/shared/filters.ts'
import type { Document } from '../documents.ts'
import { createPause } from '../pause.ts'
import type { BadRows, FileSource } from '../readers/source.ts'
import type { Tokenizer } from '../tokenizer.ts'
import { createShardPool, usualThreads } from './shard-pool.ts'
import { readShardRecord } from './shard.ts'

const shardBytes = 8 << 20
const keptBadRows = 20

export type ReadSource = {
  source: FileSource
  shards: string[]
  documents: number
  bytes: number
  /** sha256 over all ids and texts in order. */
  fingerprint: string
  badRows: BadRows
}

export type BuildProgress = (phase: string, done: number, total: number | null, unit: string) => void
export type BuildOptions = { threads?: number; signal?: AbortSignal | undefined; onProgress?: BuildProgress; shardBytes?: number }

/** Documents of a source in groups of about `size` bytes. */
async function* groupDocuments(source: FileSource, size: number, onDocument: (document: Document, bytes: number) => void, badRows: BadRows, onRead: (bytes: number) => void): AsyncGenerator<{ documents: Document[]; hash: string }> {
  let [documents, bytes, hash]: [Document[], number, ReturnType<typeof createHash>] = [[], 0, createHash('sha256')]
  for await (const document of source.documents((bad) => badRows.length < keptBadRows && badRows.push(bad), onRead)) {
    const length = Buffer.byteLength(document.text)
    hash.update(JSON.stringify([document.id, length, document.stars ?? null])).update(document.text)
    onDocument(document, length)
    documents.push(document)
    bytes += length
    if (bytes < size) continue
    yield { documents, hash: hash.digest('hex') }
    ;[documents, bytes, hash] = [[], 0, createHash('sha256')]
  }
  if (documents.length > 0) yield { documents, hash: hash.digest('hex') }
}

/** Bytes of a source's files on disk. */
const sizeOf = ({ found }: FileSource): number => found.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)

/** Makes every shard that is missing in `folder`. Throws what readers throw; an aborted signal ends it with its reason, and finished shards stay. */
export async function tokenizeSources(sources: readonly FileSource[], tokenizer: Tokenizer, filters: FilterSettings, folder: string, options: BuildOptions): Promise<ReadSource[]> {
  mkdirSync(folder, { recursive: true })
  const pause = createPause(options.signal)
  const pool = createShardPool(options.threads ?? usualThreads(), { folder, tokenizerJson: tokenizer.json, filters })
  const read: ReadSource[] = []
  // Progress is in bytes on disk, as only their total is known beforehand.
  const totalBytes = sources.reduce((sum, source) => sum + sizeOf(source), 0)
  let [finishedBytes, readBytes] = [0, 0]
  try {
    for (const source of sources) {
      const fingerprint = createHash('sha256')
      const result: ReadSource = { source, shards: [], documents: 0, bytes: 0, fingerprint: '', badRows: [] }
      const onDocument = ({ id, text }: Document, bytes: number): void => {
        fingerprint.update(`${JSON.stringify([id, bytes])}\n`).update(text)
        result.documents++
        result.bytes += bytes
      }
      for await (const { documents, hash } of groupDocuments(source, options.shardBytes ?? shardBytes, onDocument, result.badRows, (bytes) => (readBytes = bytes))) {
        const name = `${source.name}-${String(result.shards.length).padStart(6, '0')}`
        result.shards.push(name)
        if (readShardRecord(folder, name)?.textHash !== hash) await pool.give({ kind: 'build', name, isCode: source.isCode, textHash: hash, documents })
        options.onProgress?.('tokenize', finishedBytes + readBytes, totalBytes, 'bytes')
        await pause()
      }
      finishedBytes += sizeOf(source)
      read.push({ ...result, fingerprint: fingerprint.digest('hex') })
    }
    await pool.finish()
    return read
  } finally {
    await pool.close()
  }
}
