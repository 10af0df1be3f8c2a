/**
 * The second half of a build, in two looks at the shards in order: which documents are duplicates of earlier ones, in any source, and
 * which sides of the split the rest is on; then which training documents share text with what is held out or evaluated. Memory: one
 * number per document, the tables of the filters, one shard.
 */
import type { Dropped, FilterName, FilterSettings } from '#core/shared/filters.ts'
import { addNgrams, countKnownNgrams, createNearDuplicates } from '../filters/near-duplicates.ts'
import { createNumberSet, type NumberSet } from '../filters/number-set.ts'
import type { Pause } from '../pause.ts'
import { chooseValidation, type SplitOptions } from '../split.ts'
import type { Tokenizer } from '../tokenizer.ts'
import { openShard, type Shard, type ShardDocument, type Verdict } from './shard.ts'
import type { BuildProgress, ReadSource } from './tokenize.ts'

const keptExamples = 5
const exampleLength = 300

/** What becomes of each document of a shard. */
export const fate = { dropped: 0, train: 1, validation: 2 } as const
export type Selection = { fates: Map<string, Uint8Array>; dropped: Dropped[][] }

type Work = { read: readonly ReadSource[]; folder: string; tokenizer: Tokenizer; filters: FilterSettings; split: SplitOptions; pause: Pause; onProgress: BuildProgress }

function createTally(tokenizer: Tokenizer) {
  const byFilter = new Map<FilterName, Dropped>()
  return {
    drop({ filter, why }: Verdict, document: ShardDocument, shard: Shard): void {
      const entry = byFilter.get(filter) ?? { filter, documents: 0, tokens: 0, examples: [] }
      byFilter.set(filter, entry)
      entry.documents++
      entry.tokens += document.tokens
      if (entry.examples.length < keptExamples) entry.examples.push({ id: document.id, why, text: tokenizer.decode(shard.idsOf(document).subarray(0, exampleLength)).slice(0, exampleLength) })
    },
    list: (): Dropped[] => [...byFilter.values()],
  }
}
type Tally = ReturnType<typeof createTally>

/** The 64-bit hash of a text cut to the 53 bits of a number. */
const hashNumber = (hash: string): number => Number.parseInt(hash.slice(0, 13), 16)

/** Drops duplicates and settles the split. */
async function splitAndDeduplicate({ read, folder, filters, split, pause, onProgress }: Work, fates: Selection['fates'], tallies: Tally[]): Promise<void> {
  const texts = createNumberSet()
  const near = filters.near ? createNearDuplicates(filters.near.similarity) : null
  const total = read.reduce((sum, { documents }) => sum + documents, 0)
  let done = 0
  for (const [index, { shards }] of read.entries()) {
    const kept: { hash: string; bytes: number }[] = []
    for (const name of shards) {
      const shard = openShard(folder, name)
      const marks = new Uint8Array(shard.documents.length)
      fates.set(name, marks)
      for (const [i, document] of shard.documents.entries()) {
        let verdict = document.verdict
        if (verdict === null && filters.exact && !texts.add(hashNumber(document.hash))) verdict = { filter: 'exact', why: 'the same text as an earlier document' }
        const signature = verdict === null && near ? shard.signatureOf(document) : null
        const found = signature && near!.find(signature)
        if (found) verdict = { filter: 'near', why: `${Math.round(100 * found.similarity)} % like an earlier document` }
        if (verdict !== null) tallies[index]!.drop(verdict, document, shard)
        else {
          marks[i] = fate.train
          kept.push({ hash: document.hash, bytes: document.bytes })
        }
        await pause()
      }
      onProgress('deduplicate', (done += shard.documents.length), total, 'documents')
    }
    const last = chooseValidation(kept, split)
    for (const name of shards) {
      const marks = fates.get(name)!
      openShard(folder, name).documents.forEach(({ hash }, i) => {
        if (marks[i] === fate.train && hash <= last) marks[i] = fate.validation
      })
    }
  }
}

async function knownNgrams({ read, folder, tokenizer, filters, pause }: Work, fates: Selection['fates'], evaluationTexts: readonly string[]): Promise<NumberSet> {
  const { ngram, heldOut } = filters.contamination!
  const known = createNumberSet()
  for (const text of evaluationTexts) addNgrams(text, ngram, known)
  for (const name of heldOut ? read.flatMap(({ shards }) => shards) : []) {
    const marks = fates.get(name)!
    if (!marks.includes(fate.validation)) continue
    const shard = openShard(folder, name)
    for (const [i, document] of shard.documents.entries()) {
      if (marks[i] === fate.validation) addNgrams(tokenizer.decode(shard.idsOf(document)), ngram, known)
      await pause()
    }
  }
  return known
}

/** Drops training documents that share n-grams with what must not be learnt. */
async function decontaminate(work: Work, fates: Selection['fates'], tallies: Tally[], evaluationTexts: readonly string[]): Promise<void> {
  const { ngram, matches } = work.filters.contamination!
  const known = await knownNgrams(work, fates, evaluationTexts)
  if (known.size === 0) return
  const total = work.read.reduce((sum, { documents }) => sum + documents, 0)
  let done = 0
  for (const [index, { shards }] of work.read.entries()) {
    for (const name of shards) {
      const shard = openShard(work.folder, name)
      const marks = fates.get(name)!
      for (const [i, document] of shard.documents.entries()) {
        if (marks[i] !== fate.train) continue
        const found = countKnownNgrams(work.tokenizer.decode(shard.idsOf(document)), ngram, known, matches)
        if (found >= matches) {
          marks[i] = fate.dropped
          tallies[index]!.drop({ filter: 'contamination', why: `${ngram} words in a row that an evaluation or held-out text has` }, document, shard)
        }
        await work.pause()
      }
      work.onProgress('decontaminate', (done += shard.documents.length), total, 'documents')
    }
  }
}

/** Settles every document's fate. */
export async function selectDocuments(work: Work, evaluationTexts: readonly string[]): Promise<Selection> {
  const fates: Selection['fates'] = new Map()
  const tallies = work.read.map(() => createTally(work.tokenizer))
  await splitAndDeduplicate(work, fates, tallies)
  if (work.filters.contamination) await decontaminate(work, fates, tallies, evaluationTexts)
  return { fates, dropped: tallies.map((tally) => tally.list()) }
}
