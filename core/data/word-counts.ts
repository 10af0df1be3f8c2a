/** Words of texts with how often each occurs: what a tokenizer is trained on. Counts made apart (count-words.ts) are added up in any order. */
import { endOfWord } from './word-scanner.ts'
import { createWordTable, grown, type WordTable } from './word-table.ts'

/** Word after word of a table, to be sent to another thread. */
export type PackedCounts = { bytes: Uint8Array<ArrayBuffer>; lengths: Int32Array<ArrayBuffer>; counts: Float64Array<ArrayBuffer> }

export type WordCounts = {
  readonly table: WordTable
  /** By the word's number; longer than the table. */
  readonly counts: Float64Array
  /** Counts the words of one text, bytes[start, end). */
  add(bytes: Uint8Array, start: number, end: number): void
  pack(): PackedCounts
  addPacked(packed: PackedCounts): void
}

/** No words yet. */
export function createWordCounts(): WordCounts {
  const table = createWordTable()
  let counts = new Float64Array(4096)
  const count = (bytes: Uint8Array, start: number, end: number, times: number): void => {
    const word = table.numberOf(bytes, start, end)
    if (word === counts.length) counts = grown(counts)
    counts[word]! += times
  }
  return {
    table,
    get counts() {
      return counts
    },
    add(bytes, start, end) {
      while (start < end) {
        const after = endOfWord(bytes, start, end)
        count(bytes, start, after, 1)
        start = after
      }
    },
    pack() {
      const lengths = Int32Array.from({ length: table.size }, (_, word) => table.bytesOf(word).length)
      const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0))
      for (let word = 0, at = 0; word < table.size; at += lengths[word++]!) bytes.set(table.bytesOf(word), at)
      return { bytes, lengths, counts: counts.slice(0, table.size) }
    },
    addPacked({ bytes, lengths, counts: times }) {
      for (let word = 0, at = 0; word < lengths.length; at += lengths[word++]!) count(bytes, at, at + lengths[word]!, times[word]!)
    },
  }
}
