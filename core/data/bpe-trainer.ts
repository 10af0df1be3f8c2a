/**
 * Trains a byte-level BPE: counts words, then merges the most frequent pair of symbols until the vocabulary is full (Sennrich et al.,
 * 2016). Words are counted in threads (count-words.ts); pair counts are kept up to date place by place (pair-counts.ts) and the next pair
 * comes from a heap, so a merge costs what it changes.
 * Same texts in the same order give the same tokenizer, merge for merge as Hugging Face's BpeTrainer: of equal counts the lowest pair of ids.
 */
import { AppError } from '#core/shared/errors.ts'
import { usualThreads } from './build/shard-pool.ts'
import { byteCharacters } from './byte-level.ts'
import { countWords } from './count-words.ts'
import { createHeap } from './heap.ts'
import { createPairCounts, type PairCounts } from './pair-counts.ts'
import { createPause, type Pause } from './pause.ts'
import { newTokenizerJson } from './tokenizer-json.ts'
import { createTokenizer, defaultSpecialTokens, type Tokenizer } from './tokenizer.ts'
import type { WordCounts } from './word-counts.ts'

export type TrainOptions = {
  /** Special tokens, the 256 bytes and merged tokens together. Fewer come out when the text has no more pairs. */
  vocabularySize: number
  /** Take ids 0, 1, …; the first should end documents. */
  specialTokens?: readonly string[]
  /** Pairs that occur less often are not merged. */
  minimumCount?: number
  /** Threads that count words beside the caller's, where there is text enough; as many as there are cores else. */
  threads?: number
  /** Merges so far, of at most `total`. */
  onProgress?: (done: number, total: number) => void
}

const idLimit = 2 ** 21

/**
 * The most frequent pairs in order. Most pairs are rare and would only make a heap large: it holds those that count at least `floor`, and
 * when it is empty the floor is halved. An entry whose pair has lost places since goes back to where it belongs.
 */
function createQueue(pairs: PairCounts, minimumCount: number) {
  const heap = createHeap()
  let floor = Infinity
  const offer = (pair: number): void => {
    const count = pairs.countOf(pair)
    if (count >= floor) heap.push(-count, pairs.leftOf(pair) * idLimit + pairs.rightOf(pair))
  }
  const lowerFloor = (): boolean => {
    if (floor <= minimumCount) return false
    let highest = 0
    for (let pair = 0; pair < pairs.size; pair++) highest = Math.max(highest, pairs.countOf(pair))
    floor = Math.max(minimumCount, Math.floor(highest / 2))
    for (let pair = 0; pair < pairs.size; pair++) offer(pair)
    return true
  }
  return {
    offer,
    /** The pair to merge next, −1 when none counts enough. */
    next(): number {
      for (;;) {
        while (heap.pop()) {
          const pair = pairs.find(Math.floor(heap.value / idLimit), heap.value % idLimit)
          if (pairs.countOf(pair) === -heap.priority) return pair
          offer(pair)
        }
        if (!lowerFloor()) return -1
      }
    },
  }
}

async function learnMerges(words: WordCounts, byteIds: Int32Array, vocabulary: string[], options: Pick<Required<TrainOptions>, 'vocabularySize' | 'minimumCount' | 'onProgress'>, pause: Pause): Promise<[string, string][]> {
  const { vocabularySize, minimumCount, onProgress } = options
  const idOf = new Map(vocabulary.map((token, id) => [token, id]))
  const pairs = createPairCounts(words.table, words.counts, byteIds)
  const queue = createQueue(pairs, Math.max(1, minimumCount))
  const merges: [string, string][] = []
  const total = vocabularySize - vocabulary.length
  while (vocabulary.length < vocabularySize) {
    const pair = queue.next()
    if (pair < 0) break
    const [left, right] = [vocabulary[pairs.leftOf(pair)]!, vocabulary[pairs.rightOf(pair)]!]
    const token = left + right
    let merged = idOf.get(token)
    if (merged === undefined) {
      merged = vocabulary.push(token) - 1
      idOf.set(token, merged)
    }
    merges.push([left, right])
    pairs.merge(pair, merged, queue.offer)
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
  const { vocabularySize, specialTokens = defaultSpecialTokens, minimumCount = 2, threads = usualThreads(), onProgress = () => undefined } = options
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
  const words = await countWords(texts, threads, pause)
  const merges = await learnMerges(words, byteIds, vocabulary, { vocabularySize, minimumCount, onProgress }, pause)
  onProgress(vocabularySize - smallest, vocabularySize - smallest)
  return createTokenizer(newTokenizerJson(vocabulary, merges, specialTokens), 'the trained tokenizer')
}
