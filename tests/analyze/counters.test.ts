/** Counters and statistics against plain implementations that keep every token, on random routing; and the worked values of the paper. */
import { describe, expect, test } from 'vitest'
import { createCounters, countersBound, domainCounts, flowPairs, shareError, type Observed, type Segment } from '#core/analyze/counters.ts'
import { createSaturation } from '#core/analyze/saturation.ts'
import { createTokenTable, tokenTableBound } from '#core/analyze/token-table.ts'
import { bestOf, expertTokens, meanShares } from '#core/analyze/vocabulary.ts'
import type { RoutingCounters } from '#core/shared/analyses.ts'
import { expertProfile } from '#core/shared/expert-profile.ts'
import { lightPalette } from '#core/shared/figures/figure.ts'
import { heatMap } from '#core/shared/figures/heat-map.ts'
import { createRandom, permutation } from '#core/shared/random.ts'
import { coactivation, expertGroups, layerLoad, loadBalanceForms, pairBaseline, specializationSpread, strongestExperts, strongFlows, uniformShare, wilsonInterval } from '#core/shared/routing-statistics.ts'

const [L, E, K, V, sequence] = [3, 8, 3, 40, 16]
const random = createRandom(7, 'tests/analyze')

/** A batch whose routing depends on the token, so that there is something to find. */
function observe(sequences: number): { seen: Observed; segments: Segment[] } {
  const T = sequences * sequence
  const ids = Int32Array.from({ length: T }, () => Math.floor(V * random.nextFloat() ** 2))
  const choose = (t: number): Uint32Array => permutation(E, createRandom(random.nextFloat() < 0.7 ? ids[t]! : t, 'choice')).subarray(0, K)
  const experts = Array.from({ length: L }, () => Int32Array.from(Array.from({ length: T }, (_, t) => [...choose(t)]).flat()))
  return {
    seen: {
      ids,
      targets: ids.map((_, t) => ((t + 1) % sequence === 0 ? -1 : ids[t + 1]!)),
      predicted: ids.map(() => random.nextBelow(V)),
      loss: Float32Array.from(ids, () => random.nextFloat()),
      experts,
      gate: experts.map((chosen) => Float32Array.from(chosen, () => random.nextFloat())),
      logits: experts.map(() => Float32Array.from({ length: T * E }, () => random.nextNormal())),
    },
    segments: Array.from({ length: sequences }, (_, i) => ({ from: i * sequence, to: (i + 1) * sequence - (i % 3), domain: i % 2 })),
  }
}

const batches = [observe(6), observe(4), observe(6)]
const counters = createCounters({ layers: L, experts: E, topK: K, vocabulary: V }, ['even', 'odd'])
for (const { seen, segments } of batches) counters.add(seen, segments)

/** Every counted token with all that was seen of it. */
const tokens = batches.flatMap(({ seen, segments }, batch) =>
  segments.flatMap(({ from, to, domain }, s) =>
    Array.from({ length: to - from }, (_, i) => from + i).map((t) => ({
      domain, sequence: `${batch}/${s}`, input: seen.ids[t]!, predicted: seen.predicted[t]!, truth: seen.targets[t]!,
      experts: seen.experts.map((chosen) => [...chosen.subarray(t * K, (t + 1) * K)]),
    })),
  ),
)

describe('counters', () => {
  test('domain counts, load and their clustered errors', () => {
    counters.domains.forEach((sums, domain) => {
      const stored = domainCounts(sums)
      const own = tokens.filter((token) => token.domain === domain)
      expect(stored.tokens).toBe(own.length)
      for (let layer = 0; layer < L; layer++) {
        for (let e = 0; e < E; e++) {
          const isHit = own.map(({ experts }) => experts[layer]!.includes(e))
          expect(stored.topK[layer * E + e]).toBe(isHit.filter(Boolean).length)
          expect(stored.top1[layer * E + e]).toBe(own.filter(({ experts }) => experts[layer]![0] === e).length)
          const share = isHit.filter(Boolean).length / own.length
          const bySequence = Map.groupBy(own.map((token, i) => ({ token, hit: Number(isHit[i]) })), ({ token }) => token.sequence)
          const residuals = [...bySequence.values()].map((list) => list.reduce((sum, { hit }) => sum + hit, 0) - share * list.length)
          const m = bySequence.size
          expect(stored.topKError[layer * E + e]).toBeCloseTo(Math.sqrt((residuals.reduce((sum, r) => sum + r * r, 0) * m) / (m - 1)) / own.length, 10)
        }
      }
    })
  })

  test('co-activation over all pairs and over neighbours in rank', () => {
    for (let layer = 0; layer < L; layer++) {
      for (let a = 0; a < E; a++) {
        for (let b = 0; b < E; b++) {
          if (a === b) continue
          const both = tokens.filter(({ experts }) => experts[layer]!.includes(a) && experts[layer]!.includes(b))
          const near = both.filter(({ experts }) => Math.abs(experts[layer]!.indexOf(a) - experts[layer]!.indexOf(b)) === 1)
          expect(counters.pairs[layer]![a * E + b]! + counters.pairs[layer]![b * E + a]!).toBe(both.length)
          expect(counters.adjacent[layer]![a * E + b]! + counters.adjacent[layer]![b * E + a]!).toBe(near.length)
        }
      }
    }
  })

  test('flows follow the first choice', () => {
    for (const { from, to, counts } of counters.flows) {
      for (let i = 0; i < E * E; i++) {
        expect(counts[i]).toBe(tokens.filter(({ experts }) => experts[from]![0] === Math.floor(i / E) && experts[to]![0] === i % E).length)
      }
    }
    expect(flowPairs(16).slice(-2)).toEqual([[0, 7], [7, 15]])
  })

  test.each(['input', 'predicted', 'truth'] as const)('vocabulary specialization for the %s token, with and without a minimum count', (variant) => {
    const { occurrences, topK, top1 } = counters.tokens[variant]
    for (const kind of ['topK', 'top1'] as const) {
      for (const minimum of [1, 10]) {
        const isUse = (token: (typeof tokens)[number], e: number): boolean => (kind === 'topK' ? token.experts[1]!.includes(e) : token.experts[1]![0] === e)
        const best = Array.from({ length: V }, (_, id) => tokens.filter((token) => token[variant] === id))
          .filter((list) => list.length >= minimum)
          .map((list) => Math.max(...Array.from({ length: E }, (_, e) => list.filter((token) => isUse(token, e)).length / list.length)))
        const found = meanShares(bestOf((kind === 'topK' ? topK : top1)[1]!, occurrences, E), occurrences, E, minimum)
        expect(found.ids).toBe(best.length)
        expect(found.mean).toBeCloseTo(best.reduce((a, b) => a + b, 0) / best.length, 10)
      }
    }
  })

  test("an expert's tokens are those it is most often first choice of", () => {
    const told = expertTokens(counters.shape, counters.tokens.input, 0, String)
    for (let e = 0; e < E; e++) {
      const shares = Array.from({ length: V }, (_, id) => tokens.filter(({ input }) => input === id))
        .filter((list) => list.length >= 10)
        .map((list) => list.filter(({ experts }) => experts[0]![0] === e).length / list.length)
      const found = told[e]!.filter(({ occurrences }) => occurrences >= 10)
      const best = Math.max(0, ...shares)
      expect(found[0]?.top1 ?? 0).toBeCloseTo(best, 10)
      found.forEach(({ top1, topK }) => expect(topK).toBeGreaterThanOrEqual(top1))
    }
  })

  test('saturation is the overlap of the sets and the equality of first choices', () => {
    const saturation = createSaturation(counters.shape)
    const other = observe(6)
    saturation.add(batches[0]!.seen.experts, other.seen.experts, batches[0]!.segments)
    const result = saturation.result()
    for (let layer = 0; layer < L; layer++) {
      let [common, equal, n] = [0, 0, 0]
      for (const { from, to } of batches[0]!.segments) {
        for (let t = from; t < to; t++, n++) {
          const [a, b] = [batches[0]!.seen, other.seen].map(({ experts }) => [...experts[layer]!.subarray(t * K, (t + 1) * K)]) as [number[], number[]]
          common += a.filter((e) => b.includes(e)).length / K
          equal += Number(a[0] === b[0])
        }
      }
      expect(result.topK[layer]).toBeCloseTo(common / n, 10)
      expect(result.top1[layer]).toBeCloseTo(equal / n, 10)
      expect(result.topKError[layer]).toBeGreaterThan(0)
    }
  })
})

test('counts beyond 255 and beyond 65 535 stay exact, within the stated bound', () => {
  const table = createTokenTable(300, 4)
  const expected = new Map<string, number>()
  const add = (id: number, e: number, times: number): void => {
    for (let i = 0; i < times; i++) table.add(id, e)
    expected.set(`${id} ${e}`, times)
  }
  add(3, 0, 255)
  add(3, 1, 256)
  add(299, 2, 70_001)
  add(299, 3, 65_536)
  for (let id = 4; id < 298; id++) add(id, 1, 257)
  const row = new Float64Array(4)
  for (let id = 0; id < 300; id++) {
    table.read(id, row)
    row.forEach((count, e) => expect(count).toBe(expected.get(`${id} ${e}`) ?? 0))
  }
  const added = [...expected.values()].reduce((a, b) => a + b, 0)
  expect(table.bytes()).toBeLessThanOrEqual(tokenTableBound(1, 300, 4, added, 1))
})

test('OLMoE-1B-7B over 10 million tokens fits 650 MB of counters', () => {
  expect(countersBound({ layers: 16, experts: 64, topK: 8, vocabulary: 50_304 }, 10_000_000, 5)).toBeLessThan(650e6)
})

describe('statistics', () => {
  const olmoe = { experts: 64, topK: 8 }
  test("the paper's baselines of chance", () => {
    expect(pairBaseline(olmoe, 'all')).toBeCloseTo(7 / 63, 10)
    expect(pairBaseline(olmoe, 'adjacent')).toBeCloseTo(0.0278, 4)
    expect(uniformShare(olmoe, 'topK')).toBe(0.125)
    expect(uniformShare(olmoe, 'top1')).toBeCloseTo(0.0156, 4)
  })

  const domain = (topK: number[], tokens: number): RoutingCounters['domains'][number] => ({ name: 'd', tokens, sequences: 1, loss: 0, topK, top1: topK.map(() => 0), topKError: [], top1Error: [] })
  const stored = (counts: number[], probabilities: number[][], k: number): RoutingCounters =>
    ({ experts: probabilities[0]!.length, topK: k, layers: probabilities.map((_, i) => i), domains: [domain(counts, 100)], probabilitySum: probabilities, pairs: [[0, 30, 10, 30, 0, 20, 10, 20, 0]], adjacentPairs: [], flows: [] }) as unknown as RoutingCounters

  test('load balance: 1 where balanced in the trained form, k in that of transformers, which hides layers that lean opposite ways', () => {
    expect(loadBalanceForms(stored([50, 50, 50, 50], [[25, 25, 25, 25]], 2))).toEqual({ perLayer: 1, huggingFace: 2 })
    const leaning = loadBalanceForms(stored([100, 100, 0, 0, 0, 0, 100, 100], [[50, 50, 0, 0], [0, 0, 50, 50]], 2))
    expect(leaning.perLayer).toBeCloseTo(2, 10) // E/k: the most there is
    expect(leaning.huggingFace).toBeCloseTo(2, 10) // as if balanced
  })

  test('utilisation, dead experts and co-activation of worked counts', () => {
    const load = layerLoad(stored([60, 60, 0], [[50, 50, 0]], 2), 0)
    expect(load.utilisation).toBeCloseTo(2 / 3, 10)
    expect(load.dead).toEqual([2])
    expect(load.percentiles).toEqual([0, 0.75, 1.5, 1.5, 1.5])
    expect(coactivation(stored([60, 40, 20], [[1, 1, 1]], 2), 0, 'all')).toEqual([0, 0.5, 10 / 60, 0.75, 0, 0.5, 0.5, 1, 0])
  })

  test('groups, strongest experts, spread, intervals, flows', () => {
    const matrix = [0, 0.9, 0, 0, 0.9, 0, 0.1, 0, 0, 0.1, 0, 0.3, 0, 0, 0.3, 0]
    expect(expertGroups(matrix, 4, 0.25)).toEqual([[0, 1], [2, 3]])
    expect(expertGroups(matrix, 4, 0.95)).toEqual([])
    expect(strongestExperts(matrix, 4, 2)).toEqual([0, 1])
    expect(specializationSpread([0.125, 0.125, 0.125])).toBe(0)
    const [low, high] = wilsonInterval(8, 10)
    expect(low).toBeCloseTo(0.4902, 3)
    expect(high).toBeCloseTo(0.9433, 3)
    const flows = strongFlows({ ...stored([], [[1, 1]], 1), experts: 2, flows: [{ from: 0, to: 1, counts: [40, 10, 10, 40] }] }, 0, 1.5)
    expect(flows).toEqual([{ from: 0, to: 0, count: 40, share: 0.8 }, { from: 1, to: 1, count: 40, share: 0.8 }])
  })

  test('the profile of an expert: load, partners, where its tokens come from and go', () => {
    const symmetric = counters.pairs.map((pairs) => Array.from(pairs, (count, i) => count + pairs[(i % E) * E + Math.floor(i / E)]!))
    const whole = { ...stored([], [[1]], K), layers: [0, 1, 2], experts: E, tokens: counters.total(), domains: counters.domains.map(domainCounts), pairs: symmetric, gateSum: counters.gateSum.map((sums) => Array.from(sums)), flows: counters.flows.map(({ from, to, counts }) => ({ from, to, counts: Array.from(counts) })) }
    const profile = expertProfile(whole, 1, 2)
    const own = tokens.filter(({ experts }) => experts[1]!.includes(2))
    expect(profile.share).toBeCloseTo(own.length / tokens.length, 12)
    expect(profile.ratio).toBeCloseTo((own.length / tokens.length) * (E / K), 12)
    const [together, before, after] = profile.lists
    expect([together!.kind, before!.kind, after!.kind]).toEqual(['together', 'before', 'after'])
    for (const { expert, share, n } of together!.partners) {
      expect(n).toBe(own.length)
      expect(share).toBeCloseTo(own.filter(({ experts }) => experts[1]!.includes(expert)).length / own.length, 12)
    }
    const first = tokens.filter(({ experts }) => experts[1]![0] === 2)
    for (const [list, layer] of [[before!, 0], [after!, 2]] as const) {
      expect(list.layer).toBe(layer)
      for (const { expert, share } of list.partners) expect(share).toBeCloseTo(first.filter(({ experts }) => experts[layer]![0] === expert).length / first.length, 12)
    }
  })

  test('a cell of a map says its interval and sample size, and its row of the table has them', () => {
    const figure = heatMap({ id: 'x', title: 'x', rowTitle: 'layer', columnTitle: 'expert', valueTitle: 'load', rows: ['0'], columns: ['3', '4'], values: [1, 2], high: 2, format: String, certainty: (_, column) => (column === 0 ? { interval: [0.5, 1.5], n: 10 } : {}), keyOf: (row, column) => `${row}/${column}` }, lightPalette)
    expect(figure.svg).toContain('data-value="layer 0 · expert 3: 1 (95 %: 0.5 – 1.5, n = 10)" data-row="0" data-column="0" data-key="0/0"')
    expect(figure.columns).toEqual(['layer', 'expert', 'load', '95 % from', '95 % to', 'n'])
    expect(figure.rows).toEqual([['0', '3', 1, 0.5, 1.5, 10], ['0', '4', 2, '', '', '']])
  })

  test('a share of one sequence has the error of independent tokens', () => {
    expect(shareError(25, 625, 2500, 100, 10_000, 1)).toBeCloseTo(Math.sqrt(0.25 * 0.75 / 100), 10)
  })
})
