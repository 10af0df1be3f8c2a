/**
 * Vocabulary specialization (Eq 8) from the counts by token id, aggregated as the released script does: for every token id the largest share
 * that one expert has of its occurrences; a layer's value is the plain mean over ids, an expert's the mean over the ids that it is first of.
 * The script counts an id that occurs once as fully specialised; with a minimum count it does not come in.
 */
import { minimumCounts, tokensTold, type ExpertToken, type RoutingCounters } from '#core/shared/analyses.ts'
import { variants, type Counters, type Shape, type TokenCounts } from './counters.ts'

type Value = RoutingCounters['vocabulary'][number]

/** The expert with the most uses of every id, and how many; ties go to the lower expert. -1 where the id did not occur. */
export type Best = { expert: Int16Array; count: Uint32Array }

export function bestOf(table: TokenCounts['topK'][number], occurrences: Uint32Array, experts: number): Best {
  const best = { expert: new Int16Array(occurrences.length).fill(-1), count: new Uint32Array(occurrences.length) }
  const row = new Float64Array(experts)
  for (let id = 0; id < occurrences.length; id++) {
    if (occurrences[id] === 0) continue
    table.read(id, row)
    let top = 0
    for (let e = 1; e < experts; e++) if (row[e]! > row[top]!) top = e
    best.expert[id] = top
    best.count[id] = row[top]!
  }
  return best
}

/** Means of the best shares of one layer, over all ids and by the expert they belong to. */
export function meanShares(best: Best, occurrences: Uint32Array, experts: number, minimumCount: number): { ids: number; mean: number; byExpert: (number | null)[] } {
  const sums = new Float64Array(experts)
  const counts = new Float64Array(experts)
  for (let id = 0; id < occurrences.length; id++) {
    const n = occurrences[id]!
    if (n < minimumCount || n === 0) continue
    sums[best.expert[id]!]! += best.count[id]! / n
    counts[best.expert[id]!]!++
  }
  const ids = counts.reduce((a, b) => a + b, 0)
  return { ids, mean: ids > 0 ? sums.reduce((a, b) => a + b, 0) / ids : 0, byExpert: Array.from(sums, (sum, e) => (counts[e]! > 0 ? sum / counts[e]! : null)) }
}

/** Every variant, kind and minimum count, all layers. */
export function vocabularySpecialization({ shape, tokens }: Counters): Value[] {
  const values: Value[] = []
  for (const variant of variants) {
    for (const kind of ['topK', 'top1'] as const) {
      const { occurrences } = tokens[variant]
      const best = tokens[variant][kind].map((table) => bestOf(table, occurrences, shape.experts))
      for (const minimumCount of minimumCounts) {
        const means = best.map((one) => meanShares(one, occurrences, shape.experts, minimumCount))
        values.push({ variant, kind, minimumCount, ids: means[0]?.ids ?? 0, byLayer: means.map(({ mean }) => mean), byExpert: means.map(({ byExpert }) => byExpert) })
      }
    }
  }
  return values
}

type Candidate = { id: number; share: number }

/** Puts a candidate into a list of the best `tokensTold`, ordered by share, then occurrences. */
function insert(list: Candidate[], candidate: Candidate, occurrences: Uint32Array): void {
  const isBefore = (a: Candidate, b: Candidate): boolean => a.share > b.share || (a.share === b.share && occurrences[a.id]! > occurrences[b.id]!)
  const last = list.at(-1)
  if (list.length === tokensTold && last !== undefined && !isBefore(candidate, last)) return
  let at = list.length
  while (at > 0 && isBefore(candidate, list[at - 1]!)) at--
  list.splice(at, 0, candidate)
  if (list.length > tokensTold) list.pop()
}

/** The tokens of every expert of one layer: for each minimum count those it is most often first choice of, as one list by expert. */
export function expertTokens({ experts }: Shape, { occurrences, topK, top1 }: TokenCounts, layer: number, text: (id: number) => string): ExpertToken[][] {
  const lists = Array.from({ length: experts }, () => minimumCounts.map((): Candidate[] => []))
  const [first, all] = [new Float64Array(experts), new Float64Array(experts)]
  for (let id = 0; id < occurrences.length; id++) {
    const n = occurrences[id]!
    if (n === 0) continue
    top1[layer]!.read(id, first)
    for (let e = 0; e < experts; e++) {
      if (first[e] === 0) continue
      const candidate = { id, share: first[e]! / n }
      minimumCounts.forEach((minimum, i) => n >= minimum && insert(lists[e]![i]!, candidate, occurrences))
    }
  }
  return lists.map((byMinimum, e) => {
    const told = new Map(byMinimum.flat().map((candidate) => [candidate.id, candidate]))
    return [...told.values()]
      .sort((a, b) => b.share - a.share || occurrences[b.id]! - occurrences[a.id]!)
      .map(({ id, share }) => {
        topK[layer]!.read(id, all)
        return { id, text: text(id), occurrences: occurrences[id]!, top1: share, topK: all[e]! / occurrences[id]! }
      })
  })
}
