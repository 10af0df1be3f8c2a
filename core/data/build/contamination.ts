/**
 * Which training documents share text with what must not be learnt: evaluation texts, and the documents held out. Two looks at the shards,
 * each in threads. The first counts in how many documents each held-out n-gram stands; the second, at documents that had any, judges.
 * Held-out n-grams of many documents are common phrases (licences, menus) and show no leak: they do not count, as in GPT-3's rule (Brown et
 * al., 2020, appendix C). N-grams of evaluation texts always count. Memory: 12 to 24 bytes per known n-gram, shared by the threads.
 */
import type { FilterSettings } from '#core/shared/filters.ts'
import { openNumberSet, type NumberSet } from '../filters/number-set.ts'
import { ngramsOf } from '../filters/words.ts'
import type { Tokenizer } from '../tokenizer.ts'
import { openShards } from './shard.ts'

export type ContaminationSettings = NonNullable<FilterSettings['contamination']>

/** In shared memory: both sets, and of each slot of `heldOut` the number of training documents that have it. */
export type KnownNgrams = { evaluation: Float64Array<SharedArrayBuffer>; heldOut: Float64Array<SharedArrayBuffer>; documents: Int32Array<SharedArrayBuffer> }

/** `marks` says which documents to look at: those not 0. The answer has 1 for those that share anything ('count') or are contaminated ('judge'). */
export type ScanTask = { kind: 'count' | 'judge'; name: string; marks: Uint8Array }

/** What is known, for threads to read. */
export function shareNgrams(evaluation: NumberSet, heldOut: NumberSet): KnownNgrams {
  return { evaluation: evaluation.slots, heldOut: heldOut.slots, documents: new Int32Array(new SharedArrayBuffer(heldOut.slots.length * 4)) }
}

/** Adds a text's n-grams to `known`; a text shorter than that adds none. */
export function addNgrams(text: string, ngram: number, known: NumberSet): void {
  for (const hash of ngramsOf(text, ngram)) known.add(hash)
}

/** Does scan tasks, in whatever thread. */
export function createScanner(folder: string, tokenizer: Tokenizer, known: KnownNgrams, { ngram, matches, commonIn }: ContaminationSettings): (task: ScanTask) => Uint8Array {
  const [evaluation, heldOut] = [openNumberSet(known.evaluation), openNumberSet(known.heldOut)]
  /** Counts the document once for each held-out n-gram it has. */
  const count = (hashes: Float64Array): boolean => {
    const places = new Set<number>()
    let shares = false
    for (const hash of hashes) {
      const place = heldOut.indexOf(hash)
      if (place >= 0) places.add(place)
      else shares ||= evaluation.has(hash)
    }
    for (const place of places) Atomics.add(known.documents, place, 1)
    return shares || places.size > 0
  }
  const isContaminated = (hashes: Float64Array): boolean => {
    let found = 0
    for (const hash of hashes) {
      const place = heldOut.indexOf(hash)
      if ((evaluation.has(hash) || (place >= 0 && known.documents[place]! <= commonIn)) && ++found >= matches) return true
    }
    return false
  }
  return ({ kind, name, marks }) => {
    const result = new Uint8Array(marks.length)
    for (const shard of openShards(folder, [name])) {
      shard.documents.forEach((document, i) => {
        if (marks[i] === 0) return
        const hashes = ngramsOf(tokenizer.decode(shard.idsOf(document)), ngram)
        result[i] = Number(kind === 'count' ? count(hashes) : isContaminated(hashes))
      })
    }
    return result
  }
}
