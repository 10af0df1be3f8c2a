/**
 * Trains a byte-level BPE: counts words, then merges the most frequent pair of symbols until the vocabulary is full (Sennrich et al.,
 * 2016). Pair counts are kept up to date place by place (pair-counts.ts) and the next pair comes from a heap, so a merge costs what it changes.
 * Same texts in the same order give the same tokenizer, merge for merge as Hugging Face's BpeTrainer: of equal counts the lowest pair of ids.
 */
import { AppError } from '#core/shared/errors.ts'
import { byteCharacters } from './byte-level.ts'
import { createHeap } from './heap.ts'
import { createPairCounts } from './pair-counts.ts'
import { createPause, type Pause } from './pause.ts'
import { newTokenizerJson } from './tokenizer-json.ts'
import { createTokenizer, defaultSpecialTokens, type Tokenizer } from './tokenizer.ts'
import { createUtf8Buffer } from './utf8-buffer.ts'
import { endOfWord } from './word-scanner.ts'
import { createWordTable, grown, type WordTable } from './word-table.ts'

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

type Words = { table: WordTable; counts: Float64Array }

async function countWords(texts: Iterable<string> | AsyncIterable<string>, pause: Pause): Promise<Words> {
  const table = createWordTable()
  const utf8 = createUtf8Buffer()
  let counts = new Float64Array(4096)
  for await (const text of texts) {
    const length = utf8.fill(text)
    for (let start = 0; start < length; ) {
      const end = endOfWord(utf8.bytes, start, length)
      const word = table.numberOf(utf8.bytes, start, end)
      if (word === counts.length) counts = grown(counts)
      counts[word]!++
      start = end
    }
    await pause()
  }
  return { table, counts }
}

async function learnMerges(words: Words, byteIds: Int32Array, vocabulary: string[], options: Required<TrainOptions>, pause: Pause): Promise<[string, string][]> {
  const { vocabularySize, minimumCount, onProgress } = options
  const idOf = new Map(vocabulary.map((token, id) => [token, id]))
  const pairs = createPairCounts(words.table, words.counts, byteIds)
  const heap = createHeap()
  const offer = (pair: number): void => {
    if (pairs.countOf(pair) > 0) heap.push(-pairs.countOf(pair), pairs.leftOf(pair) * idLimit + pairs.rightOf(pair))
  }
  for (let pair = 0; pair < pairs.size; pair++) offer(pair)
  const merges: [string, string][] = []
  const total = vocabularySize - vocabulary.length
  while (vocabulary.length < vocabularySize && heap.pop()) {
    const [left, right] = [Math.floor(heap.value / idLimit), heap.value % idLimit]
    const pair = pairs.find(left, right)
    if (pairs.countOf(pair) < minimumCount) continue
    if (pairs.countOf(pair) !== -heap.priority) {
      offer(pair)
      continue
    }
    const token = vocabulary[left]! + vocabulary[right]!
    let merged = idOf.get(token)
    if (merged === undefined) {
      merged = vocabulary.push(token) - 1
      idOf.set(token, merged)
    }
    merges.push([vocabulary[left]!, vocabulary[right]!])
    pairs.merge(pair, merged).forEach(offer)
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
  const words = await countWords(texts, pause)
  const merges = await learnMerges(words, byteIds, vocabulary, { vocabularySize, specialTokens, minimumCount, onProgress }, pause)
  onProgress(vocabularySize - smallest, vocabularySize - smallest)
  return createTokenizer(newTokenizerJson(vocabulary, merges, specialTokens), 'the trained tokenizer')
}
