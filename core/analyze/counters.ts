/**
 * The counters of one pass over text: what every figure of the analyses is made of. Nothing else is kept of a batch. Their size is bounded by
 * the model's shape and the number of tokens (countersBound), never by what the routing looks like.
 *
 * L layers with experts, E experts, K experts per token, V vocabulary. A sequence is the unit that chance draws: standard errors are of
 * shares whose numerator and denominator are both sums over sequences (linearised ratio).
 */
import { histogramBins, type DomainCounts } from '#core/shared/analyses.ts'
import { contextBytes, createContexts, type Contexts } from './contexts.ts'
import { createTokenTable, tokenTableBound, type TokenTable } from './token-table.ts'

export type Shape = { layers: number; experts: number; topK: number; vocabulary: number }

/** A run of tokens [from, to) of a batch that belong to one sequence of one domain. */
export type Segment = { from: number; to: number; domain: number }

/** What a batch looked like to the model; arrays by layer are [T, K] (experts, gate) and [T, E] (logits). */
export type Observed = {
  ids: Int32Array
  /** Next token, or negative. */
  targets: Int32Array
  predicted: Int32Array
  /** −log p of the target. */
  loss: Float32Array
  experts: Int32Array[]
  gate: Float32Array[]
  logits: Float32Array[]
}

export const variants = ['input', 'predicted', 'truth'] as const
export type Variant = (typeof variants)[number]
export type TokenCounts = { occurrences: Uint32Array; topK: TokenTable[]; top1: TokenTable[] }

/** Sums over sequences of c, c² and c·n for counts c among n tokens, from which follow a share and its standard error. */
type ShareSums = { c: Float64Array; cc: Float64Array; cn: Float64Array }
type DomainSums = { name: string; tokens: number; squaredTokens: number; sequences: number; loss: number; targets: number; topK: ShareSums; top1: ShareSums }

export type Counters = {
  readonly shape: Shape
  readonly domains: DomainSums[]
  /** [E, E] by layer: pairs[a·E+b] counts a ranked before b. */
  readonly pairs: Uint32Array[]
  readonly adjacent: Uint32Array[]
  readonly flows: { from: number; to: number; counts: Uint32Array }[]
  readonly gateHistogram: Uint32Array[]
  readonly gateSum: Float64Array[]
  /** Σ of the router's probabilities, chosen or not. */
  readonly probabilitySum: Float64Array[]
  readonly entropyHistogram: Uint32Array[]
  readonly entropySum: Float64Array
  readonly tokens: Record<Variant, TokenCounts>
  readonly contexts: Contexts
  add(seen: Observed, segments: readonly Segment[]): void
  total(): number
}

/** Most bytes that the counters of `tokens` tokens can take. */
export function countersBound({ layers, experts, topK, vocabulary }: Shape, tokens: number, domains: number): number {
  const tables = tokenTableBound(layers, vocabulary, experts, tokens, topK) + tokenTableBound(layers, vocabulary, experts, tokens, 1)
  const perLayer = 4 * (3 * experts * experts + experts * (histogramBins + 4) + histogramBins) + 48 * domains * experts
  return variants.length * (tables + 4 * vocabulary) + layers * perLayer + contextBytes(layers, experts)
}

const shareSums = (size: number): ShareSums => ({ c: new Float64Array(size), cc: new Float64Array(size), cn: new Float64Array(size) })

/** Standard error of the share Σc/Σn over sequences; with one sequence, that of independent tokens. */
export function shareError(c: number, cc: number, cn: number, n: number, nn: number, sequences: number): number {
  if (n === 0) return 0
  const share = c / n
  if (sequences < 2) return Math.sqrt((share * Math.max(0, 1 - share)) / n)
  const residuals = Math.max(0, cc - 2 * share * cn + share * share * nn)
  return (Math.sqrt((residuals * sequences) / (sequences - 1)) / n)
}

/** Pairs of layers whose first choices are followed: each to the next, and first → middle → last as the paper draws them. */
export function flowPairs(layers: number): [number, number][] {
  const pairs: [number, number][] = Array.from({ length: Math.max(0, layers - 1) }, (_, i) => [i, i + 1])
  const middle = Math.floor((layers - 1) / 2)
  for (const pair of [[0, middle], [middle, layers - 1]] as [number, number][]) {
    if (pair[0] < pair[1] && !pairs.some(([from, to]) => from === pair[0] && to === pair[1])) pairs.push(pair)
  }
  return pairs
}

/** Entropy of softmax(row) divided by log E: 0 = certain, 1 = uniform. The softmax itself is left in `probs` [E]. */
export function relativeEntropy(logits: Float32Array, at: number, experts: number, probs: Float64Array = new Float64Array(experts)): number {
  let most = -Infinity
  for (let e = 0; e < experts; e++) if (logits[at + e]! > most) most = logits[at + e]!
  let [sum, weighted] = [0, 0]
  for (let e = 0; e < experts; e++) {
    const d = logits[at + e]! - most
    const p = Math.exp(d)
    probs[e] = p
    sum += p
    weighted += p * d
  }
  for (let e = 0; e < experts; e++) probs[e]! /= sum
  return experts < 2 ? 0 : Math.min(1, Math.max(0, (Math.log(sum) - weighted / sum) / Math.log(experts)))
}

/** The domain's counts in the form that is stored. */
export function domainCounts({ name, tokens, squaredTokens, sequences, loss, targets, topK, top1 }: DomainSums): DomainCounts {
  const errors = (sums: ShareSums): number[] => Array.from(sums.c, (c, i) => shareError(c, sums.cc[i]!, sums.cn[i]!, tokens, squaredTokens, sequences))
  return { name, tokens, sequences, loss: targets > 0 ? loss / targets : 0, topK: Array.from(topK.c), top1: Array.from(top1.c), topKError: errors(topK), top1Error: errors(top1) }
}

export function createCounters(shape: Shape, domainNames: readonly string[]): Counters {
  const { layers: L, experts: E, topK: K, vocabulary: V } = shape
  const byLayer = <T>(make: () => T): T[] => Array.from({ length: L }, make)
  const tables = (): TokenTable[] => byLayer(() => createTokenTable(V, E))
  const tokenCounts = (): TokenCounts => ({ occurrences: new Uint32Array(V), topK: tables(), top1: tables() })
  const counters = {
    shape,
    domains: domainNames.map((name): DomainSums => ({ name, tokens: 0, squaredTokens: 0, sequences: 0, loss: 0, targets: 0, topK: shareSums(L * E), top1: shareSums(L * E) })),
    pairs: byLayer(() => new Uint32Array(E * E)),
    adjacent: byLayer(() => new Uint32Array(E * E)),
    flows: flowPairs(L).map(([from, to]) => ({ from, to, counts: new Uint32Array(E * E) })),
    gateHistogram: byLayer(() => new Uint32Array(E * histogramBins)),
    gateSum: byLayer(() => new Float64Array(E)),
    probabilitySum: byLayer(() => new Float64Array(E)),
    entropyHistogram: byLayer(() => new Uint32Array(histogramBins)),
    entropySum: new Float64Array(L),
    tokens: { input: tokenCounts(), predicted: tokenCounts(), truth: tokenCounts() },
    contexts: createContexts(L, E),
  }
  const probs = new Float64Array(E)
  const inSequence = { topK: new Float64Array(E), top1: new Float64Array(E) }

  /** Adds a sequence's counts c among n tokens to its domain's sums. */
  function close(sums: ShareSums, counts: Float64Array, layer: number, n: number): void {
    for (let e = 0; e < E; e++) {
      const c = counts[e]!
      if (c === 0) continue
      const at = layer * E + e
      sums.c[at]! += c
      sums.cc[at]! += c * c
      sums.cn[at]! += c * n
    }
  }

  function countTexts({ ids, targets, predicted, loss }: Observed, { from, to, domain }: Segment): void {
    const sums = counters.domains[domain]!
    sums.tokens += to - from
    sums.squaredTokens += (to - from) ** 2
    sums.sequences++
    const { input, predicted: guessed, truth } = counters.tokens
    for (let t = from; t < to; t++) {
      input.occurrences[ids[t]!]!++
      guessed.occurrences[predicted[t]!]!++
      const target = targets[t]!
      if (target < 0) continue
      truth.occurrences[target]!++
      sums.loss += loss[t]!
      sums.targets++
    }
  }

  function countLayer(layer: number, seen: Observed, { from, to, domain }: Segment): void {
    const { ids, targets, predicted } = seen
    const [experts, gate, logits] = [seen.experts[layer]!, seen.gate[layer]!, seen.logits[layer]!]
    const [pairs, adjacent] = [counters.pairs[layer]!, counters.adjacent[layer]!]
    const [histogram, gateSum, entropies] = [counters.gateHistogram[layer]!, counters.gateSum[layer]!, counters.entropyHistogram[layer]!]
    const probabilities = counters.probabilitySum[layer]!
    const { input, predicted: guessed, truth } = counters.tokens
    const [inputK, guessedK, truthK] = [input.topK[layer]!, guessed.topK[layer]!, truth.topK[layer]!]
    const { topK: all, top1: first } = inSequence
    all.fill(0)
    first.fill(0)
    for (let t = from; t < to; t++) {
      const [id, guess, target, at] = [ids[t]!, predicted[t]!, targets[t]!, t * K]
      for (let j = 0; j < K; j++) {
        const e = experts[at + j]!
        const weight = gate[at + j]!
        all[e]!++
        histogram[e * histogramBins + Math.min(histogramBins - 1, (weight * histogramBins) | 0)]!++
        gateSum[e]! += weight
        inputK.add(id, e)
        guessedK.add(guess, e)
        if (target >= 0) truthK.add(target, e)
        for (let i = j + 1; i < K; i++) pairs[e * E + experts[at + i]!]!++
        if (j + 1 < K) adjacent[e * E + experts[at + j + 1]!]!++
      }
      const best = experts[at]!
      first[best]!++
      input.top1[layer]!.add(id, best)
      guessed.top1[layer]!.add(guess, best)
      if (target >= 0) truth.top1[layer]!.add(target, best)
      counters.contexts.offer(layer, best, gate[at]!, ids, from, t, to, domain)
      const entropy = relativeEntropy(logits, t * E, E, probs)
      for (let e = 0; e < E; e++) probabilities[e]! += probs[e]!
      entropies[Math.min(histogramBins - 1, (entropy * histogramBins) | 0)]!++
      counters.entropySum[layer]! += entropy
    }
    close(counters.domains[domain]!.topK, all, layer, to - from)
    close(counters.domains[domain]!.top1, first, layer, to - from)
  }

  function countFlows({ experts }: Observed, { from, to }: Segment): void {
    for (const flow of counters.flows) {
      const [here, there] = [experts[flow.from]!, experts[flow.to]!]
      for (let t = from; t < to; t++) flow.counts[here[t * K]! * E + there[t * K]!]!++
    }
  }

  return {
    ...counters,
    add(seen, segments) {
      for (const segment of segments) {
        countTexts(seen, segment)
        countFlows(seen, segment)
        for (let layer = 0; layer < L; layer++) countLayer(layer, seen, segment)
      }
    },
    total: () => counters.domains.reduce((sum, { tokens }) => sum + tokens, 0),
  }
}
