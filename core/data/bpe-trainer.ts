/**
 * Trains byte-level BPE (arXiv 1508.07909 over bytes): repeatedly merges the most frequent adjacent pair, counts kept up to date
 * in a heap. Deterministic: equal counts go to the pair of lower ids. Texts are counted word by word and not kept.
 */
import { byteCharacters, wordPattern } from './byte-level.ts'
import { createTokenizer, type Tokenizer } from './tokenizer.ts'

export type BpeOptions = {
  /** Ids of the result, special tokens and the 256 bytes included. */
  vocabularySize: number
  /** Get ids 0, 1, … in this order. */
  specialTokens: readonly string[]
}

const pairBase = 2 ** 21

/** A heap of [count, pair], most frequent first, then lowest pair. Entries may be stale; the reader checks. */
class PairHeap {
  private readonly items: [number, number][] = []

  private before(a: [number, number], b: [number, number]): boolean {
    return a[0] !== b[0] ? a[0] > b[0] : a[1] < b[1]
  }

  push(count: number, pair: number): void {
    const { items } = this
    let i = items.push([count, pair]) - 1
    while (i > 0) {
      const parent = (i - 1) >> 1
      if (!this.before(items[i]!, items[parent]!)) break
      ;[items[i], items[parent]] = [items[parent]!, items[i]!]
      i = parent
    }
  }

  pop(): [number, number] | undefined {
    const { items } = this
    const top = items[0]
    const last = items.pop()
    if (items.length === 0 || !last) return top
    items[0] = last
    for (let i = 0; ; ) {
      let child = 2 * i + 1
      if (child >= items.length) return top
      if (child + 1 < items.length && this.before(items[child + 1]!, items[child]!)) child++
      if (!this.before(items[child]!, items[i]!)) return top
      ;[items[i], items[child]] = [items[child]!, items[i]!]
      i = child
    }
  }
}

type Word = { ids: number[]; count: number }

/** Pair statistics over words: how often, and in which words. */
class PairCounts {
  readonly counts = new Map<number, number>()
  private readonly wordsOf = new Map<number, Set<number>>()
  readonly heap = new PairHeap()
  private readonly words: readonly Word[]

  constructor(words: readonly Word[]) {
    this.words = words
    words.forEach(({ ids, count }, word) => {
      for (let i = 0; i + 1 < ids.length; i++) this.add(ids[i]! * pairBase + ids[i + 1]!, count, word)
    })
    for (const [pair, count] of this.counts) this.heap.push(count, pair)
  }

  private add(pair: number, count: number, word: number): void {
    this.counts.set(pair, (this.counts.get(pair) ?? 0) + count)
    const words = this.wordsOf.get(pair)
    if (words) words.add(word)
    else this.wordsOf.set(pair, new Set([word]))
  }

  /** The most frequent pair, or undefined when no pair is left. */
  next(): number | undefined {
    for (;;) {
      const top = this.heap.pop()
      if (!top) return undefined
      const [count, pair] = top
      const current = this.counts.get(pair) ?? 0
      if (current === count && current > 0) return pair
      if (current > 0) this.heap.push(current, pair)
    }
  }

  /** Replaces `pair` by `id` in every word that has it. */
  merge(pair: number, id: number): void {
    const [left, right] = [Math.floor(pair / pairBase), pair % pairBase]
    const changed = new Set<number>()
    const move = (from: number, to: number, count: number, word: number): void => {
      this.counts.set(from, (this.counts.get(from) ?? 0) - count)
      this.add(to, count, word)
      changed.add(to)
    }
    for (const word of this.wordsOf.get(pair) ?? []) {
      const { ids, count } = this.words[word]!
      for (let i = 0; i + 1 < ids.length; i++) {
        if (ids[i] !== left || ids[i + 1] !== right) continue
        if (i > 0) move(ids[i - 1]! * pairBase + left, ids[i - 1]! * pairBase + id, count, word)
        if (i + 2 < ids.length) move(right * pairBase + ids[i + 2]!, id * pairBase + ids[i + 2]!, count, word)
        ids.splice(i, 2, id)
      }
    }
    this.counts.delete(pair)
    this.wordsOf.delete(pair)
    for (const moved of changed) {
      const count = this.counts.get(moved) ?? 0
      if (count > 0) this.heap.push(count, moved)
    }
  }
}

function countWords(texts: Iterable<string>, byteIds: readonly number[]): Word[] {
  const counts = new Map<string, number>()
  for (const text of texts) for (const word of text.toWellFormed().normalize('NFC').match(wordPattern) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1)
  const utf8 = new TextEncoder()
  return [...counts].map(([word, count]) => ({ ids: Array.from(utf8.encode(word), (byte) => byteIds[byte]!), count }))
}

/** Trains on `texts`. The vocabulary is smaller than asked for when the texts run out of pairs. */
export function trainTokenizer(texts: Iterable<string>, { vocabularySize, specialTokens }: BpeOptions): Tokenizer {
  const alphabet = [...byteCharacters].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!)
  const tokens = [...specialTokens, ...alphabet]
  if (vocabularySize < tokens.length) throw new RangeError(`vocabularySize is ${vocabularySize}, expected at least ${tokens.length} (special tokens and the 256 bytes)`)
  const known = new Map(tokens.map((token, id) => [token, id]))
  const pairs = new PairCounts(countWords(texts, byteCharacters.map((character) => known.get(character)!)))
  const merges: [string, string][] = []
  while (tokens.length < vocabularySize) {
    const pair = pairs.next()
    if (pair === undefined) break
    const [left, right] = [tokens[Math.floor(pair / pairBase)]!, tokens[pair % pairBase]!]
    let id = known.get(left + right)
    if (id === undefined) {
      id = tokens.push(left + right) - 1
      known.set(left + right, id)
    }
    merges.push([left, right])
    pairs.merge(pair, id)
  }
  return createTokenizer({ tokens, merges, addedTokens: specialTokens.map((content, id) => ({ id, content, special: true })), normalise: true })
}
