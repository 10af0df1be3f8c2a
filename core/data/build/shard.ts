/**
 * A shard of a build: some megabytes of one source's documents, tokenized and judged by the filters that look at one document alone.
 * Two files in the build's work folder: the tokens (raw uint32, then the signatures), and a record that is written last, whole, so its
 * presence means that both are there. Its text hash tells whether it is still of the same documents.
 */
import { closeSync, fsyncSync, openSync, readFileSync, readSync, renameSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { FilterName, FilterSettings } from '#core/shared/filters.ts'
import type { Document } from '../documents.ts'
import { signatureLength, signatureOf } from '../filters/near-duplicates.ts'
import { findRepeats } from '../filters/repeats.ts'
import { countWords, frequentWordShares } from '../filters/words.ts'
import { documentHash } from '../split.ts'
import type { Tokenizer } from '../tokenizer.ts'

export type Verdict = { filter: FilterName; why: string }
/** `signature` is the document's number among the shard's signatures, −1 without one. */
export type ShardDocument = { id: string; bytes: number; words: number; hash: string; start: number; tokens: number; verdict: Verdict | null; signature: number }
export type ShardRecord = { textHash: string; tokens: number; documents: ShardDocument[] }
export type ShardTask = { kind: 'build'; name: string; isCode: boolean; textHash: string; documents: Document[] }

export const shardPaths = (folder: string, name: string): { data: string; record: string } => ({ data: join(folder, `${name}.bin`), record: join(folder, `${name}.json`) })

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`

/** The first filter that drops the document on its own. */
export function judge(document: Document, ids: Uint32Array, isCode: boolean, filters: FilterSettings): Verdict | null {
  const { length, repeats, stars, words } = filters
  if (length && (ids.length < length.minTokens || ids.length > length.maxTokens)) return { filter: 'length', why: `${ids.length} tokens` }
  const found = repeats && findRepeats(ids, repeats)
  if (found) return { filter: 'repeats', why: `${found.period} tokens ${found.count} times in a row` }
  if (isCode && stars && document.stars !== undefined && document.stars < stars.atLeast) return { filter: 'stars', why: `${document.stars} stars` }
  if (isCode && words) {
    const { top, topTwo } = frequentWordShares(document.text)
    if (top > words.top) return { filter: 'words', why: `the most frequent word is ${percent(top)} of all` }
    if (topTwo > words.topTwo) return { filter: 'words', why: `the two most frequent words are ${percent(topTwo)} of all` }
  }
  return null
}

/** Writes beside the place, flushes and renames: a reader sees the whole file or none. A part that did not fit gives its space back. */
function writeWhole(path: string, parts: readonly Uint8Array[]): void {
  const file = openSync(`${path}.part`, 'w')
  try {
    for (const part of parts) for (let done = 0; done < part.length; ) done += writeSync(file, part, done)
    fsyncSync(file)
  } catch (error) {
    rmSync(`${path}.part`, { force: true })
    throw error
  } finally {
    closeSync(file)
  }
  renameSync(`${path}.part`, path)
}

/** Makes and writes one shard. */
export function buildShard(task: ShardTask, folder: string, tokenizer: Tokenizer, filters: FilterSettings): void {
  const parts: Uint32Array[] = []
  const signatures: Uint32Array[] = []
  let start = 0
  const documents = task.documents.map((document): ShardDocument => {
    const ids = tokenizer.encode(document.text, { special: 'text' })
    parts.push(ids)
    const verdict = judge(document, ids, task.isCode, filters)
    const signature = verdict === null && filters.near ? signatureOf(document.text, filters.near.shingle) : null
    if (signature) signatures.push(signature)
    const record = { id: document.id, bytes: Buffer.byteLength(document.text), words: countWords(document.text), hash: documentHash(document.text), start, tokens: ids.length, verdict, signature: signature ? signatures.length - 1 : -1 }
    start += ids.length
    return record
  })
  const { data, record } = shardPaths(folder, task.name)
  writeWhole(data, [...parts, ...signatures].map((part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength)))
  writeWhole(record, [Buffer.from(JSON.stringify({ textHash: task.textHash, tokens: start, documents } satisfies ShardRecord))])
}

/** The record of a shard; null when it was not finished. */
export function readShardRecord(folder: string, name: string): ShardRecord | null {
  try {
    return JSON.parse(readFileSync(shardPaths(folder, name).record, 'utf8')) as ShardRecord
  } catch {
    return null
  }
}

export type Shard = ShardRecord & { name: string; idsOf(document: ShardDocument): Uint32Array; signatureOf(document: ShardDocument): Uint32Array | null }

function readNumbers(file: number, start: number, count: number): Uint32Array {
  const numbers = new Uint32Array(count)
  const bytes = new Uint8Array(numbers.buffer)
  if (readSync(file, bytes, 0, bytes.length, start * 4) !== bytes.length) throw new Error(`a shard ends before number ${start + count}`)
  return numbers
}

/** Finished shards one after another, each open for one turn of the loop; a document's tokens are read when asked for. */
export function* openShards(folder: string, names: readonly string[]): Generator<Shard> {
  for (const name of names) {
    const record = readShardRecord(folder, name)
    if (record === null) throw new Error(`shard ${name} is not there`)
    const file = openSync(shardPaths(folder, name).data, 'r')
    try {
      yield {
        ...record,
        name,
        idsOf: ({ start, tokens }) => readNumbers(file, start, tokens),
        signatureOf: ({ signature }) => (signature < 0 ? null : readNumbers(file, record.tokens + signature * signatureLength, signatureLength)),
      }
    } finally {
      closeSync(file)
    }
  }
}

/** Reads one signature again, which starts at number `start` of a shard's data. */
export function readSignature(folder: string, name: string, start: number): Uint32Array {
  const file = openSync(shardPaths(folder, name).data, 'r')
  try {
    return readNumbers(file, start, signatureLength)
  } finally {
    closeSync(file)
  }
}
