/**
 * Trains a byte-level BPE: counts words, then merges the most frequent pair of symbols until the vocabulary is full (Sennrich et al.,
 * 2016). Pair counts are kept up to date word by word and the next pair comes from a heap, so a merge costs what it changes.
 * Same texts in the same order give the same tokenizer, merge for merge as Hugging Face's BpeTrainer: of equal counts the lowest pair of ids.
 */
import { AppError } from '#core/shared/errors.ts'
import { byteCharacters, splitWords } from './byte-level.ts'
import { createHeap } from './heap.ts'
import { createPause, type Pause } from './pause.ts'
import { newTokenizerJson } from './tokenizer-json.ts'
import { createTokenizer, defaultSpecialTokens, type Tokenizer } from './tokenizer.ts'

export type TrainOptions = {
  /** Special tokens, the 256 bytes and merged tokens together. Fewer come out when the text has no more pairs. */
  vocabularySize: number
  /** Take ids 0, 1, …; the first should end documents. */
  specialTokens?: readonly string[]
  /** Pairs that occur less often are not merged. */
  minimumCount?: number
  /** Merges so far, of at most `total`. */
  onProgress?: (done: number, total: number) => void
}

const idLimit = 2 ** 21

type Words = { symbols: Int32Array[]; counts: number[] }

async function countWords(texts: Iterable<string> | AsyncIterable<string>, pause: Pause): Promise<Map<string, number>> {
  const countOf = new Map<string, number>()
  for await (const text of texts) {
    for (const word of splitWords(text.toWellFormed())) countOf.set(word, (countOf.get(word) ?? 0) + 1)
    await pause()
  }
  return countOf
}

function toSymbols(countOf: Map<string, number>, byteIds: Int32Array): Words {
  const utf8 = new TextEncoder()
  const words: Words = { symbols: [], counts: [] }
  for (const [word, count] of countOf) {
    const bytes = utf8.encode(word)
    if (bytes.length < 2) continue
    words.symbols.push(Int32Array.from(bytes, (byte) => byteIds[byte]!))
    words.counts.push(count)
  }
  return words
}

/** How often each pair occurs and in which words (a word may be listed twice or no longer have the pair: harmless). */
function createPairTable({ symbols, counts }: Words) {
  const countOf = new Map<number, number>()
  const wordsOf = new Map<number, number[]>()
  const add = (pair: number, word: number): void => {
    countOf.set(pair, (countOf.get(pair) ?? 0) + counts[word]!)
    const list = wordsOf.get(pair)
    if (!list) wordsOf.set(pair, [word])
    else if (list[list.length - 1] !== word) list.push(word)
  }
  symbols.forEach((word, index) => {
    for (let i = 0; i + 1 < word.length; i++) add(word[i]! * idLimit + word[i + 1]!, index)
  })
  return {
    countOf,
    add,
    remove: (pair: number, word: number): void => void countOf.set(pair, (countOf.get(pair) ?? 0) - counts[word]!),
    /** The words of a pair that is about to be merged away. */
    take(pair: number): number[] {
      const list = wordsOf.get(pair) ?? []
      wordsOf.delete(pair)
      countOf.delete(pair)
      return list
    },
  }
}
type PairTable = ReturnType<typeof createPairTable>

/** Replaces left·right by `merged` in one word, keeping the table right; pairs that gained occurrences go to `grown`. */
function mergeInWord(words: Words, index: number, left: number, right: number, merged: number, pairs: PairTable, grown: Set<number>): void {
  const word = words.symbols[index]!
  const gain = (pair: number): void => {
    pairs.add(pair, index)
    grown.add(pair)
  }
  let length = 0
  for (let i = 0; i < word.length; i++) {
    if (word[i] !== left || i + 1 >= word.length || word[i + 1] !== right) {
      word[length++] = word[i]!
      continue
    }
    if (length > 0) {
      pairs.remove(word[length - 1]! * idLimit + left, index)
      gain(word[length - 1]! * idLimit + merged)
    }
    if (i + 2 < word.length) {
      pairs.remove(right * idLimit + word[i + 2]!, index)
      gain(merged * idLimit + word[i + 2]!)
    }
    word[length++] = merged
    i++
  }
  words.symbols[index] = word.subarray(0, length)
}

async function learnMerges(words: Words, vocabulary: string[], options: Required<TrainOptions>, pause: Pause): Promise<[string, string][]> {
  const { vocabularySize, minimumCount, onProgress } = options
  const idOf = new Map(vocabulary.map((token, id) => [token, id]))
  const pairs = createPairTable(words)
  const heap = createHeap()
  for (const [pair, count] of pairs.countOf) heap.push(-count, pair)
  const merges: [string, string][] = []
  const total = vocabularySize - vocabulary.length
  while (vocabulary.length < vocabularySize && heap.pop()) {
    const [pair, seen] = [heap.value, -heap.priority]
    const count = pairs.countOf.get(pair) ?? 0
    if (count < minimumCount) continue
    if (count !== seen) {
      heap.push(-count, pair)
      continue
    }
    const [left, right] = [Math.floor(pair / idLimit), pair % idLimit]
    const token = vocabulary[left]! + vocabulary[right]!
    let merged = idOf.get(token)
    if (merged === undefined) {
      merged = vocabulary.push(token) - 1
      idOf.set(token, merged)
    }
    merges.push([vocabulary[left]!, vocabulary[right]!])
    const grown = new Set<number>()
    for (const index of pairs.take(pair)) mergeInWord(words, index, left, right, merged, pairs, grown)
    // Merging x·x in x·x·x counts a pair that is already gone: it must not come back below zero.
    pairs.countOf.delete(pair)
    for (const next of grown) {
      const grownCount = pairs.countOf.get(next) ?? 0
      if (grownCount > 0) heap.push(-grownCount, next)
    }
    const turn = pause()
    if (turn) {
      onProgress(Math.min(merges.length, total), total)
      await turn
    }
  }
  return merges
}

/** Learns a tokenizer from `texts`. Throws AppError `tokenizer.vocabularySize` when the size cannot hold the bytes and special tokens. */
export async function trainTokenizer(texts: Iterable<string> | AsyncIterable<string>, options: TrainOptions): Promise<Tokenizer> {
  const { vocabularySize, specialTokens = defaultSpecialTokens, minimumCount = 2, onProgress = () => undefined } = options
  const smallest = specialTokens.length + 256
  if (!Number.isInteger(vocabularySize) || vocabularySize < smallest || vocabularySize >= idLimit) {
    throw new AppError('tokenizer.vocabularySize', `vocabulary size ${vocabularySize}, expected ${smallest} to ${idLimit - 1}`, {
      params: { found: vocabularySize, expected: `${smallest}–${idLimit - 1}` },
      hint: 'Leave room for 256 bytes and the special tokens; 4,096 to 65,536 is usual.',
    })
  }
  const pause = createPause()
  // The bytes follow the special tokens in the order of their characters, which is Hugging Face's order.
  const alphabet = [...byteCharacters].sort((a, b) => a.charCodeAt(0) - b.charCodeAt(0))
  const vocabulary = [...specialTokens, ...alphabet]
  const byteIds = Int32Array.from(byteCharacters, (character) => specialTokens.length + alphabet.indexOf(character))
  const words = toSymbols(await countWords(texts, pause), byteIds)
  const merges = await learnMerges(words, vocabulary, { vocabularySize, specialTokens, minimumCount, onProgress }, pause)
  onProgress(vocabularySize - smallest, vocabularySize - smallest)
  return createTokenizer(newTokenizerJson(vocabulary, merges, specialTokens), 'the trained tokenizer')
}
