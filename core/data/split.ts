/**
 * The train/validation split of a domain by the hash of a document's text: the documents with the lowest hashes are held out. Nothing
 * but the texts decides, so the split is the same on every machine, and equal texts are always on the same side.
 */
import { createHash } from 'node:crypto'
import type { Document } from './documents.ts'

export type SplitOptions = {
  /** Share of a domain's bytes to hold out. */
  fraction: number
  /** At least this many bytes, though never more than a tenth of the domain. */
  floorBytes: number
}
export const defaultSplit: SplitOptions = { fraction: 0.02, floorBytes: 64 * 1024 }

export type DomainScan = {
  documents: number
  /** UTF-8 bytes of the texts. */
  bytes: number
  /** Documents with a hash up to this one are held out; '' holds out none. */
  lastValidationHash: string
  /** sha256 over all ids and texts in order: what the domain is. */
  fingerprint: string
}

/** The hash that decides a document's side: 64 bits of sha256 as hex. */
export function documentHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}

/** The hash up to which documents are held out. A domain's last distinct text is never held out: something has to be trained on. */
export function chooseValidation(documents: readonly { hash: string; bytes: number }[], { fraction, floorBytes }: SplitOptions): string {
  const bytes = documents.reduce((sum, document) => sum + document.bytes, 0)
  const wanted = Math.max(bytes * fraction, Math.min(floorBytes, bytes / 10))
  const byHash = [...documents].sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : 0))
  const highest = byHash.at(-1)?.hash
  let [held, last] = [0, '']
  for (const document of byHash) {
    if (document.hash === highest || (held >= wanted && document.hash !== last)) break
    held += document.bytes
    last = document.hash
  }
  return last
}

/** Reads a domain once: its size, its fingerprint and its split. Keeps one hash per document in memory, no texts. */
export async function scanDomain(documents: AsyncIterable<Document>, options: SplitOptions = defaultSplit): Promise<DomainScan> {
  const fingerprint = createHash('sha256')
  const hashes: { hash: string; bytes: number }[] = []
  for await (const { id, text } of documents) {
    const bytes = Buffer.byteLength(text)
    fingerprint.update(`${JSON.stringify([id, bytes])}\n`).update(text)
    hashes.push({ hash: documentHash(text), bytes })
  }
  return {
    documents: hashes.length,
    bytes: hashes.reduce((sum, document) => sum + document.bytes, 0),
    lastValidationHash: chooseValidation(hashes, options),
    fingerprint: fingerprint.digest('hex'),
  }
}
