/**
 * From the counters of one pass to the numbers of the paper (arXiv 2409.02060, section 5): load, co-activation, specialization, with what chance
 * alone would give beside each. Pure functions of RoutingCounters; the pages, the command line and the report draw the same numbers.
 */
import type { CountKind, RoutingCounters, VocabularyVariant } from './analyses.ts'

/** Share of a domain's tokens that an expert would have by chance: k/E, or 1/E for the first choice. */
export const uniformShare = ({ topK, experts }: Pick<RoutingCounters, 'topK' | 'experts'>, kind: CountKind): number => (kind === 'topK' ? topK : 1) / experts

/** Assignments of every expert of a layer over all domains. */
export function layerCounts({ domains, experts }: RoutingCounters, layer: number, kind: CountKind): number[] {
  return Array.from({ length: experts }, (_, e) => domains.reduce((sum, domain) => sum + domain[kind][layer * experts + e]!, 0))
}

/** The value below which `fraction` of the values lie, interpolated. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const at = fraction * (sorted.length - 1)
  const low = Math.floor(at)
  return sorted[low]! + (at - low) * ((sorted[low + 1] ?? sorted[low]!) - sorted[low]!)
}

/** Wilson's interval of a share of `count` among `total`, 95 %. */
export function wilsonInterval(count: number, total: number): [number, number] {
  if (total === 0) return [0, 1]
  const [z, p] = [1.96, count / total]
  const centre = (p + z ** 2 / (2 * total)) / (1 + z ** 2 / total)
  const half = (z / (1 + z ** 2 / total)) * Math.sqrt((p * (1 - p)) / total + z ** 2 / (4 * total ** 2))
  return [Math.max(0, centre - half), Math.min(1, centre + half)]
}

export type LayerLoad = {
  /** Share of the layer's assignments by expert; they sum to 1. */
  shares: number[]
  /** exp(entropy of the shares)/E: 1 = all experts alike, 1/E = one does it all. */
  utilisation: number
  /** Entropy of the shares over its maximum. */
  entropy: number
  /** Experts with less than 1 % of an even share. */
  dead: number[]
  /** Of the shares over the even share: minimum, quartiles, maximum. */
  percentiles: [number, number, number, number, number]
  /** E·Σ f·P (the loss, 1 = balanced). */
  loadBalance: number
}

/** How evenly the experts of a layer are used. */
export function layerLoad(counters: RoutingCounters, layer: number, kind: CountKind = 'topK'): LayerLoad {
  const counts = layerCounts(counters, layer, kind)
  return { ...loadOf(counts), loadBalance: loadBalance(counts, counters.probabilitySum[layer]!) }
}

/** The same from bare counts, without the router's probabilities. */
export function loadOf(counts: readonly number[]): Omit<LayerLoad, 'loadBalance'> {
  const sum = counts.reduce((a, b) => a + b, 0) || 1
  const shares = counts.map((count) => count / sum)
  const nats = -shares.reduce((total, share) => total + (share > 0 ? share * Math.log(share) : 0), 0)
  const ratios = shares.map((share) => share * shares.length)
  return {
    shares,
    utilisation: Math.exp(nats) / shares.length,
    entropy: shares.length > 1 ? nats / Math.log(shares.length) : 0,
    dead: ratios.flatMap((ratio, e) => (ratio < 0.01 ? [e] : [])),
    percentiles: [0, 0.25, 0.5, 0.75, 1].map((fraction) => quantile(ratios, fraction)) as LayerLoad['percentiles'],
  }
}

/** E·Σ f·P of one layer from assignments and summed probabilities. */
function loadBalance(counts: readonly number[], probabilities: readonly number[]): number {
  const [n, p] = [counts.reduce((a, b) => a + b, 0), probabilities.reduce((a, b) => a + b, 0)]
  return n === 0 || p === 0 ? 0 : counts.length * counts.reduce((sum, count, e) => sum + (count / n) * (probabilities[e]! / p), 0)
}

/** Load balance as trained with (mean over layers) and as transformers computes it (all layers' tokens as one, times k): it hides layers that lean opposite ways. */
export function loadBalanceForms(counters: RoutingCounters): { perLayer: number; huggingFace: number } {
  const layers = counters.layers.map((_, layer) => layer)
  const perLayer = layers.reduce((sum, layer) => sum + layerLoad(counters, layer).loadBalance, 0) / Math.max(1, layers.length)
  const overLayers = (of: (layer: number) => readonly number[]): number[] => Array.from({ length: counters.experts }, (_, e) => layers.reduce((sum, layer) => sum + of(layer)[e]!, 0))
  const pooled = loadBalance(overLayers((layer) => layerCounts(counters, layer, 'topK')), overLayers((layer) => counters.probabilitySum[layer]!))
  return { perLayer, huggingFace: pooled * counters.topK }
}

export type PairKind = 'all' | 'adjacent'

/** Co-activation by chance: (k−1)/(E−1) over all pairs, 2(k−1)/(k(E−1)) over neighbours in rank (the released script counts only those). */
export function pairBaseline({ topK: K, experts: E }: Pick<RoutingCounters, 'topK' | 'experts'>, kind: PairKind): number {
  return E < 2 ? 0 : kind === 'all' ? (K - 1) / (E - 1) : (2 * (K - 1)) / (K * (E - 1))
}

/** Coact(i, j) = N_ij/N_i (Eq 6) of a layer, [E, E]; the diagonal is 0. Not symmetric. */
export function coactivation(counters: RoutingCounters, layer: number, kind: PairKind): number[] {
  const E = counters.experts
  const counts = layerCounts(counters, layer, 'topK')
  const pairs = (kind === 'all' ? counters.pairs : counters.adjacentPairs)[layer]!
  return pairs.map((pair, i) => (i % (E + 1) === 0 || counts[Math.floor(i / E)] === 0 ? 0 : pair / counts[Math.floor(i / E)]!))
}

/** The `count` experts with the largest co-activation, in their own order. */
export function strongestExperts(matrix: readonly number[], experts: number, count: number): number[] {
  const strength = Array.from({ length: experts }, (_, e) => Math.max(...matrix.slice(e * experts, (e + 1) * experts)))
  const order = strength.map((_, e) => e).sort((a, b) => strength[b]! - strength[a]!)
  return order.slice(0, count).sort((a, b) => a - b)
}

/**
 * Groups of experts that work together: average linkage on the mean of both directions, joined while that mean is at least `threshold`.
 * Groups of one are left out; the strongest pair's group first.
 */
export function expertGroups(matrix: readonly number[], experts: number, threshold: number): number[][] {
  const both = (a: number, b: number): number => (matrix[a * experts + b]! + matrix[b * experts + a]!) / 2
  const groups = Array.from({ length: experts }, (_, e) => [e])
  const between = (a: number[], b: number[]): number => a.reduce((sum, i) => sum + b.reduce((part, j) => part + both(i, j), 0), 0) / (a.length * b.length)
  const links = groups.map((a) => groups.map((b) => (a === b ? -1 : between(a, b))))
  const alive = new Set(groups.keys())
  for (;;) {
    let best: [number, number, number] = [-1, -1, threshold]
    for (const a of alive) for (const b of alive) if (a < b && links[a]![b]! >= best[2]) best = [a, b, links[a]![b]!]
    const [a, b] = best
    if (a < 0) break
    const [sizeA, sizeB] = [groups[a]!.length, groups[b]!.length]
    for (const c of alive) if (c !== a && c !== b) links[a]![c] = links[c]![a] = (links[a]![c]! * sizeA + links[b]![c]! * sizeB) / (sizeA + sizeB)
    groups[a]!.push(...groups[b]!)
    alive.delete(b)
  }
  const strength = (group: number[]): number => Math.max(...group.flatMap((a) => group.map((b) => (a === b ? 0 : both(a, b)))))
  return [...alive].map((a) => groups[a]!).filter((group) => group.length > 1).sort((a, b) => strength(b) - strength(a))
}

/** Dom(E_i, D) = N_{i,D}/N_D (Eq 7) of every expert of a layer, with its standard error. */
export function domainShares({ domains, experts }: RoutingCounters, domain: number, layer: number, kind: CountKind): { shares: number[]; errors: number[] } {
  const one = domains[domain]!
  const of = (values: readonly number[]): number[] => values.slice(layer * experts, (layer + 1) * experts)
  return { shares: of(one[kind]).map((count) => (one.tokens > 0 ? count / one.tokens : 0)), errors: of(kind === 'topK' ? one.topKError : one.top1Error) }
}

/** Standard deviation over experts (uniform = 0): the one number of how far a layer specialises on a domain. */
export function specializationSpread(shares: readonly number[]): number {
  const mean = shares.reduce((a, b) => a + b, 0) / shares.length
  return Math.sqrt(shares.reduce((sum, share) => sum + (share - mean) ** 2, 0) / shares.length)
}

/** Flows from one layer to another that carry more than `overUniform` times what chance gives, as shares of the source's tokens. */
export function strongFlows({ flows, experts: E }: RoutingCounters, index: number, overUniform: number): { from: number; to: number; count: number; share: number }[] {
  const { counts } = flows[index]!
  const rows = Array.from({ length: E }, (_, e) => counts.slice(e * E, (e + 1) * E).reduce((a, b) => a + b, 0))
  const columns = Array.from({ length: E }, (_, e) => rows.reduce((sum, _row, i) => sum + counts[i * E + e]!, 0))
  const total = rows.reduce((a, b) => a + b, 0)
  return counts.flatMap((count, i) => {
    const [from, to] = [Math.floor(i / E), i % E]
    const expected = total > 0 ? (rows[from]! * columns[to]!) / total : 0
    return count > 0 && count > overUniform * expected && count > (overUniform * total) / E ** 2 ? [{ from, to, count, share: count / rows[from]! }] : []
  })
}

/** The stored vocabulary values of one choice. */
export function vocabularyOf({ vocabulary }: RoutingCounters, variant: VocabularyVariant, kind: CountKind, minimumCount: number): RoutingCounters['vocabulary'][number] | undefined {
  return vocabulary.find((value) => value.variant === variant && value.kind === kind && value.minimumCount === minimumCount)
}
