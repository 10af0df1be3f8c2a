/** A worker thread of count-words.ts: counts the words of the pieces that it is sent, and gives its counts at the end. */
import { parentPort } from 'node:worker_threads'
import { createWordCounts, type PackedCounts } from './word-counts.ts'

/** Texts one after another, each ending where `ends` says. */
export type Piece = { bytes: Uint8Array<ArrayBuffer>; ends: number[] }
/** null: the piece is counted. */
export type CountReply = PackedCounts | null

const words = createWordCounts()

parentPort!.on('message', (piece: Piece | 'end') => {
  const reply = (counts: CountReply, moved: ArrayBuffer[] = []): void => parentPort!.postMessage(counts, moved)
  if (piece === 'end') {
    const packed = words.pack()
    return reply(packed, [packed.bytes.buffer, packed.lengths.buffer, packed.counts.buffer])
  }
  piece.ends.forEach((end, i) => words.add(piece.bytes, i === 0 ? 0 : piece.ends[i - 1]!, end))
  reply(null)
})
