/** One expert in numbers, from the counters of an analysis: its load, the experts it works with, and where its tokens come from and go. */
import type { ExpertToken, RoutingCounters } from './analyses.ts'
import { layerCounts, pairBaseline, wilsonInterval } from './routing-statistics.ts'

/** Experts told of each kind. */
const partnersTold = 8

export type Partner = { expert: number; share: number; interval: [number, number]; n: number }
/** `together`: among the top k of the same tokens; `before`, `after`: first choice of its tokens in the layer before and after. `layer` is the model's. */
export type PartnerList = { kind: 'together' | 'before' | 'after'; layer: number; chance: number; partners: Partner[] }

export type ExpertProfile = {
  /** Load over an even share. */
  ratio: number
  /** Share of all tokens that it is among the top k of, and its 95 % interval if tokens were independent. */
  share: number
  interval: [number, number]
  /** Share of all tokens that it is first choice of. */
  first: number
  /** Mean gate where it is chosen. */
  meanGate: number
  lists: PartnerList[]
  /** 95 % interval of a token's share. */
  tokenInterval(token: ExpertToken): [number, number]
}

/** The partners that most of `n` tokens go to. */
function strongest(counts: readonly number[], n: number): Partner[] {
  return counts
    .map((count, expert) => ({ expert, share: n > 0 ? count / n : 0, interval: wilsonInterval(count, n), n }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share)
    .slice(0, partnersTold)
}

/** `layer` is an index of the counters' layers. */
export function expertProfile(counters: RoutingCounters, layer: number, expert: number): ExpertProfile {
  const { experts: E, topK: K, tokens, layers } = counters
  const [count, first] = [layerCounts(counters, layer, 'topK')[expert]!, layerCounts(counters, layer, 'top1')[expert]!]
  const share = tokens > 0 ? count / tokens : 0
  const pairs = counters.pairs[layer]!.slice(expert * E, (expert + 1) * E).map((pair, other) => (other === expert ? 0 : pair))
  const lists: PartnerList[] = K > 1 ? [{ kind: 'together', layer: layers[layer]!, chance: pairBaseline(counters, 'all'), partners: strongest(pairs, count) }] : []
  for (const { from, to, counts } of counters.flows) {
    if (to === layer && from === layer - 1) lists.push({ kind: 'before', layer: layers[from]!, chance: 1 / E, partners: strongest(Array.from({ length: E }, (_, e) => counts[e * E + expert]!), first) })
    if (from === layer && to === layer + 1) lists.push({ kind: 'after', layer: layers[to]!, chance: 1 / E, partners: strongest(counts.slice(expert * E, (expert + 1) * E), first) })
  }
  return {
    ratio: (share * E) / K,
    share,
    interval: wilsonInterval(count, tokens),
    first: tokens > 0 ? first / tokens : 0,
    meanGate: count > 0 ? counters.gateSum[layer]![expert]! / count : 0,
    lists,
    tokenInterval: ({ top1, occurrences }) => wilsonInterval(Math.round(top1 * occurrences), occurrences),
  }
}
