/**
 * Bytes of text to ids: words by the scanner, each merged (its pair of lowest rank first, leftmost of equals, until none is left) and
 * remembered. A word costs O(n log n) however long it is. The cache is bounded: when it is full it starts anew, so it follows the text.
 */
import { createHeap } from './heap.ts'
import { createPairTable } from './pair-table.ts'
import { endOfWord } from './word-scanner.ts'
import { createWordTable, grown } from './word-table.ts'

/** The merges of a tokenizer in order of rank, as ids. */
export type Merges = { byteIds: Int32Array; lefts: Int32Array; rights: Int32Array; results: Int32Array }

export type WordEncoder = {
  /** Appends the ids of bytes[0, length), which are UTF-8, to those not taken yet. */
  encode(bytes: Uint8Array, length: number): void
  append(id: number): void
  /** All ids since the last time. */
  take(): Uint32Array
}

const cachedWordBytes = 64
const cachedWords = 1 << 18
/** Larger lists of ids are given back to the memory once taken. */
const keptIds = 1 << 20

/** Merges one word; the ids are in the array it gives, from 0 up to the number it gives. */
function createMerger({ byteIds, lefts, rights, results }: Merges) {
  const pairs = createPairTable()
  const ranks = new Int32Array(lefts.length)
  // Of a pair that is listed twice the later rank holds, as in Hugging Face's.
  for (let rank = 0; rank < lefts.length; rank++) ranks[pairs.numberOf(lefts[rank]!, rights[rank]!)] = rank
  const heap = createHeap()
  let [symbols, next, previous] = [new Int32Array(64), new Int32Array(64), new Int32Array(64)]
  let n = 0
  const rankAt = (i: number): number => {
    if (next[i]! >= n) return -1
    const pair = pairs.find(symbols[i]!, symbols[next[i]!]!)
    return pair < 0 ? -1 : ranks[pair]!
  }
  const offer = (i: number): void => {
    const rank = rankAt(i)
    if (rank >= 0) heap.push(rank, i)
  }
  const merge = (i: number, rank: number): void => {
    const merged = next[i]!
    symbols[i] = results[rank]!
    symbols[merged] = -1
    next[i] = next[merged]!
    if (next[i]! < n) previous[next[i]!] = i
    offer(i)
    if (previous[i]! >= 0) offer(previous[i]!)
  }
  return {
    /** The ids: valid until the next word. */
    get ids() {
      return symbols
    },
    merge(bytes: Uint8Array, start: number, end: number): number {
      n = end - start
      if (n > symbols.length) [symbols, next, previous] = [grown(symbols, n), grown(next, n), grown(previous, n)]
      for (let i = 0; i < n; i++) {
        symbols[i] = byteIds[bytes[start + i]!]!
        next[i] = i + 1
        previous[i] = i - 1
      }
      for (let i = 0; i < n; i++) offer(i)
      // An entry whose symbols have merged since is out of date.
      while (heap.pop()) if (symbols[heap.value]! >= 0 && rankAt(heap.value) === heap.priority) merge(heap.value, heap.priority)
      let count = 0
      for (let i = 0; i < n; i = next[i]!) symbols[count++] = symbols[i]!
      return count
    },
  }
}

export function createWordEncoder(merges: Merges): WordEncoder {
  const merger = createMerger(merges)
  const cache = createWordTable()
  // The ids of a cached word are cachedIds[cachedStarts[word], cachedStarts[word + 1]).
  let cachedIds = new Uint32Array(1 << 14)
  let cachedStarts = new Int32Array(1 << 12)
  let ids = new Uint32Array(1 << 14)
  let length = 0

  const appendFrom = (source: ArrayLike<number>, from: number, to: number): void => {
    if (length + to - from > ids.length) ids = grown(ids, length + to - from)
    for (let i = from; i < to; i++) ids[length++] = source[i]!
  }
  /** The word's number in the cache, where its ids are by now. */
  const remember = (bytes: Uint8Array, start: number, end: number): number => {
    if (cache.size === cachedWords) cache.clear()
    const known = cache.size
    const word = cache.numberOf(bytes, start, end)
    if (word < known) return word
    const count = merger.merge(bytes, start, end)
    const from = cachedStarts[word]!
    if (word + 2 > cachedStarts.length) cachedStarts = grown(cachedStarts)
    if (from + count > cachedIds.length) cachedIds = grown(cachedIds, from + count)
    cachedStarts[word + 1] = from + count
    for (let i = 0; i < count; i++) cachedIds[from + i] = merger.ids[i]!
    return word
  }
  return {
    encode(bytes, byteLength) {
      for (let start = 0; start < byteLength; ) {
        const end = endOfWord(bytes, start, byteLength)
        if (end - start > cachedWordBytes) {
          const count = merger.merge(bytes, start, end)
          appendFrom(merger.ids, 0, count)
        } else {
          const word = remember(bytes, start, end)
          appendFrom(cachedIds, cachedStarts[word]!, cachedStarts[word + 1]!)
        }
        start = end
      }
    },
    append: (id) => appendFrom([id], 0, 1),
    take() {
      const taken = ids.slice(0, length)
      length = 0
      if (ids.length > keptIds) ids = new Uint32Array(1 << 14)
      return taken
    },
  }
}
