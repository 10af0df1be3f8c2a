/**
 * Counts the words of a stream of texts, in threads once there is text enough: they take pieces of it, and what no thread is free for is
 * counted here, so reading and counting keep all cores busy. Sums do not depend on who counted what.
 */
import { Worker } from 'node:worker_threads'
import type { CountReply, Piece } from './count-worker.ts'
import type { Pause } from './pause.ts'
import { createUtf8Buffer } from './utf8-buffer.ts'
import { createWordCounts, type WordCounts } from './word-counts.ts'
import { workerPath } from './worker-path.ts'

const pieceBytes = 1 << 19
/** Pieces that a thread has at a time: one in work, one that waits. */
const piecesAhead = 2

/** A thread, and how many pieces it still has. */
function startThread() {
  const worker = new Worker(workerPath('count-worker'))
  let pieces = 0
  let result: (counts: NonNullable<CountReply>) => void
  let fail: (error: unknown) => void
  const counts = new Promise<NonNullable<CountReply>>((resolve, reject) => ([result, fail] = [resolve, reject]))
  // Whoever waits for the counts hears of it.
  counts.catch(() => undefined)
  worker.on('error', (error) => fail(error))
  worker.on('message', (reply: CountReply) => (reply === null ? pieces-- : result(reply)))
  return {
    isFree: () => pieces < piecesAhead,
    give(piece: Piece): void {
      pieces++
      worker.postMessage(piece, [piece.bytes.buffer])
    },
    end(): Promise<NonNullable<CountReply>> {
      worker.postMessage('end')
      return counts
    },
    close: () => worker.terminate(),
  }
}

/** Counts all words of `texts`, with up to `threads` threads beside this one. */
export async function countWords(texts: Iterable<string> | AsyncIterable<string>, threads: number, pause: Pause): Promise<WordCounts> {
  const words = createWordCounts()
  const utf8 = createUtf8Buffer()
  const workers: ReturnType<typeof startThread>[] = []
  let piece: Piece = { bytes: new Uint8Array(pieceBytes), ends: [] }
  const handOver = async (): Promise<void> => {
    // The first piece is full: texts shorter than that are counted before a thread would have begun.
    while (workers.length < threads) workers.push(startThread())
    const free = workers.find((worker) => worker.isFree())
    if (free) {
      free.give(piece)
      piece = { bytes: new Uint8Array(pieceBytes), ends: [] }
    } else countHere()
    await new Promise(setImmediate)
  }
  const countHere = (): void => {
    piece.ends.forEach((end, i) => words.add(piece.bytes, i === 0 ? 0 : piece.ends[i - 1]!, end))
    piece.ends = []
  }
  try {
    for await (const text of texts) {
      const length = utf8.fill(text)
      let start = piece.ends.at(-1) ?? 0
      if (start + length > pieceBytes && start > 0) {
        await handOver()
        start = 0
      }
      if (length > pieceBytes) words.add(utf8.bytes, 0, length)
      else {
        piece.bytes.set(utf8.bytes.subarray(0, length), start)
        piece.ends.push(start + length)
      }
      await pause()
    }
    countHere()
    for (const counts of await Promise.all(workers.map((worker) => worker.end()))) words.addPacked(counts)
    return words
  } finally {
    await Promise.all(workers.map((worker) => worker.close()))
  }
}
