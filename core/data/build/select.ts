/**
 * The second half of a build, in two looks at the shards in order: which documents are duplicates of earlier ones, in any source, and
 * which sides of the split the rest is on; then which training documents share text with what is held out or evaluated (contamination.ts, in threads). Memory: a
 * few numbers per document and the tables of the filters.
 */
import type { Dropped, FilterName, FilterSettings } from '#core/shared/filters.ts'
import { createNearDuplicates, signatureLength } from '../filters/near-duplicates.ts'
import { createNumberSet, type NumberSet } from '../filters/number-set.ts'
import type { Pause } from '../pause.ts'
import { chooseValidation, type SplitOptions } from '../split.ts'
import type { Tokenizer } from '../tokenizer.ts'
import { addNgrams, shareNgrams, type ScanTask } from './contamination.ts'
import { createShardPool, type ShardPool } from './shard-pool.ts'
import { openShards, readSignature, type Shard, type ShardDocument, type Verdict } from './shard.ts'
import type { BuildProgress, ReadSource } from './tokenize.ts'

const keptExamples = 5
const exampleLength = 300

/** What becomes of each document of a shard. */
export const fate = { dropped: 0, train: 1, validation: 2 } as const
export type Selection = { fates: Map<string, Uint8Array>; dropped: Dropped[][] }

type Work = { read: readonly ReadSource[]; folder: string; tokenizer: Tokenizer; filters: FilterSettings; split: SplitOptions; threads: number; pause: Pause; onProgress: BuildProgress }

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

/** Near duplicates among shards: of a kept document it knows the place of its signature. */
function createNearFinder(similarity: number, folder: string) {
  const places: { name: string; start: number }[] = []
  const near = createNearDuplicates(similarity, (kept) => readSignature(folder, places[kept]!.name, places[kept]!.start))
  return (document: ShardDocument, shard: Shard): Verdict | null => {
    const signature = shard.signatureOf(document)
    const found = signature && near.find(signature)
    if (found) return { filter: 'near', why: `${Math.round(100 * found.similarity)} % like an earlier document` }
    if (signature) places.push({ name: shard.name, start: shard.tokens + document.signature * signatureLength })
    return null
  }
}

/** Drops duplicates and settles the split. */
async function splitAndDeduplicate({ read, folder, filters, split, pause, onProgress }: Work, fates: Selection['fates'], tallies: Tally[]): Promise<void> {
  const texts = createNumberSet()
  const findNear = filters.near ? createNearFinder(filters.near.similarity, folder) : null
  const total = read.reduce((sum, { bytes }) => sum + bytes, 0)
  let done = 0
  for (const [index, { shards }] of read.entries()) {
    const kept: { hash: string; bytes: number }[] = []
    for (const shard of openShards(folder, shards)) {
      const marks = new Uint8Array(shard.documents.length)
      fates.set(shard.name, marks)
      for (const [i, document] of shard.documents.entries()) {
        let verdict = document.verdict
        if (verdict === null && filters.exact && !texts.add(hashNumber(document.hash))) verdict = { filter: 'exact', why: 'the same text as an earlier document' }
        verdict ??= findNear?.(document, shard) ?? null
        if (verdict !== null) tallies[index]!.drop(verdict, document, shard)
        else {
          marks[i] = fate.train
          kept.push({ hash: document.hash, bytes: document.bytes })
        }
        done += document.bytes
        const turn = pause()
        if (turn) onProgress('deduplicate', done, total, 'bytes')
        await turn
      }
    }
    const last = chooseValidation(kept, split)
    for (const shard of openShards(folder, shards)) {
      const marks = fates.get(shard.name)!
      shard.documents.forEach(({ hash }, i) => {
        if (marks[i] === fate.train && hash <= last) marks[i] = fate.validation
      })
    }
  }
}

/** The n-grams of the held-out documents. */
async function heldOutNgrams({ read, folder, tokenizer, filters, pause }: Work, fates: Selection['fates']): Promise<NumberSet> {
  const { ngram, heldOut } = filters.contamination!
  const known = createNumberSet()
  const names = heldOut ? read.flatMap(({ shards }) => shards).filter((name) => fates.get(name)!.includes(fate.validation)) : []
  for (const shard of openShards(folder, names)) {
    const marks = fates.get(shard.name)!
    for (const [i, document] of shard.documents.entries()) {
      if (marks[i] === fate.validation) addNgrams(tokenizer.decode(shard.idsOf(document)), ngram, known)
      await pause()
    }
  }
  return known
}

/** Has threads scan the shards, the documents that `marks` names; the answers by shard. */
async function scanShards({ read, pause, onProgress }: Work, pool: ShardPool, kind: ScanTask['kind'], marks: Map<string, Uint8Array>): Promise<Map<string, Uint8Array>> {
  const answers = new Map<string, Uint8Array>()
  const sizes = new Map(read.flatMap(({ shards, bytes }) => shards.map((name): [string, number] => [name, bytes / shards.length])))
  const total = read.reduce((sum, { bytes }) => sum + bytes, 0)
  let done = 0
  for (const [name, wanted] of marks) {
    const onDone = (result: Uint8Array | null): void => {
      answers.set(name, result!)
      done += sizes.get(name)!
      // Judging looks at few documents.
      if (kind === 'count') onProgress('decontaminate', Math.round(done), total, 'bytes')
    }
    if (wanted.some((mark) => mark !== 0)) await pool.give({ kind, name, marks: wanted }, onDone)
    else onDone(wanted)
    await pause()
  }
  await pool.finish()
  return answers
}

/** Drops training documents that share n-grams with what must not be learnt. */
async function decontaminate(work: Work, fates: Selection['fates'], tallies: Tally[], evaluationTexts: readonly string[]): Promise<void> {
  const { folder, tokenizer, filters, threads, read } = work
  const { ngram } = filters.contamination!
  const evaluation = createNumberSet()
  for (const text of evaluationTexts) addNgrams(text, ngram, evaluation)
  const heldOut = await heldOutNgrams(work, fates)
  if (evaluation.size + heldOut.size === 0) return
  const pool = createShardPool(threads, { folder, tokenizerJson: tokenizer.json, filters, known: shareNgrams(evaluation, heldOut) })
  try {
    const training = new Map([...fates].map(([name, marks]) => [name, marks.map((mark) => Number(mark === fate.train))]))
    const contaminated = await scanShards(work, pool, 'judge', await scanShards(work, pool, 'count', training))
    for (const [index, { shards }] of read.entries()) {
      for (const shard of openShards(folder, shards.filter((name) => contaminated.get(name)!.includes(1)))) {
        shard.documents.forEach((document, i) => {
          if (contaminated.get(shard.name)![i] === 0) return
          fates.get(shard.name)![i] = fate.dropped
          tallies[index]!.drop({ filter: 'contamination', why: `${ngram} words in a row that an evaluation or held-out text has` }, document, shard)
        })
      }
    }
  } finally {
    await pool.close()
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
