/** Router saturation (Eq 5): how much of one checkpoint's choices another one makes on the same tokens, among the top k and as first choice. */
import type { RoutingCounters } from '#core/shared/analyses.ts'
import { shareError, type Segment, type Shape } from './counters.ts'

export type Saturation = {
  /** Compares the experts [T, K] by layer that both chose. */
  add(final: readonly Int32Array[], earlier: readonly Int32Array[], segments: readonly Segment[]): void
  result(): Pick<RoutingCounters['saturation'][number], 'topK' | 'top1' | 'topKError' | 'top1Error' | 'counts'>
}

export function createSaturation({ layers: L, experts: E, topK: K }: Shape): Saturation {
  const sums = { topK: { c: new Float64Array(L), cc: new Float64Array(L), cn: new Float64Array(L) }, top1: { c: new Float64Array(L), cc: new Float64Array(L), cn: new Float64Array(L) } }
  const counts = new Float64Array(L * E)
  const chosen = new Uint8Array(E)
  let [n, nn, sequences] = [0, 0, 0]

  function overlap(layer: number, a: Int32Array, b: Int32Array, { from, to }: Segment): { common: number; equal: number } {
    let [common, equal] = [0, 0]
    for (let t = from; t < to; t++) {
      const at = t * K
      for (let j = 0; j < K; j++) chosen[a[at + j]!] = 1
      for (let j = 0; j < K; j++) {
        common += chosen[b[at + j]!]!
        counts[layer * E + b[at + j]!]!++
      }
      for (let j = 0; j < K; j++) chosen[a[at + j]!] = 0
      if (a[at] === b[at]) equal++
    }
    return { common: common / K, equal }
  }

  return {
    add(final, earlier, segments) {
      for (const segment of segments) {
        const length = segment.to - segment.from
        n += length
        nn += length * length
        sequences++
        for (let layer = 0; layer < L; layer++) {
          const { common, equal } = overlap(layer, final[layer]!, earlier[layer]!, segment)
          for (const [sum, c] of [[sums.topK, common], [sums.top1, equal]] as const) {
            sum.c[layer]! += c
            sum.cc[layer]! += c * c
            sum.cn[layer]! += c * length
          }
        }
      }
    },
    result() {
      const share = ({ c }: (typeof sums)['topK']): number[] => Array.from(c, (value) => (n > 0 ? value / n : 0))
      const error = ({ c, cc, cn }: (typeof sums)['topK']): number[] => Array.from(c, (value, i) => shareError(value, cc[i]!, cn[i]!, n, nn, sequences))
      return { topK: share(sums.topK), top1: share(sums.top1), topKError: error(sums.topK), top1Error: error(sums.top1), counts: Array.from(counts) }
    },
  }
}
