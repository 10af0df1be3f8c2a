/**
 * What should be looked at in a run, found in its step records as they come: a value that is not finite, a spike of loss or gradient
 * against the steps just before it, experts that get almost no tokens or far too many. Pure: the same records give the same alerts.
 */
import { z } from 'zod'
import { idSchema } from './common.ts'

export const alertKinds = ['notFinite', 'lossSpike', 'gradientSpike', 'deadExperts', 'overloadedExperts'] as const
export const alertSchema = z.object({
  id: idSchema,
  kind: z.enum(alertKinds),
  step: z.int(),
  at: z.number(),
  /** Spikes: the value, and the median before it. */
  value: z.number().nullable(),
  expected: z.number().nullable(),
  /** Of a value that is not finite: its name. */
  field: z.string().nullable(),
  /** Experts: their layer in the model (from 0, dense ones counted), and which they are. */
  layer: z.int().nullable(),
  experts: z.array(z.int()),
  dismissed: z.boolean(),
})
export type Alert = z.infer<typeof alertSchema>
export type Finding = Omit<Alert, 'id' | 'at' | 'dismissed'>

/** Steps that a spike is held against, and that expert loads are summed over. */
const window = 64
const leastHistory = 24
/** Robust standard deviations; a training's noise has heavy tails. */
const spikeScore = 8
/** A spike is at least this much above the median, so that a flat curve's noise is none. */
const leastRise = { loss: 0.1, gradNorm: 1 }
/** Utilisation: an expert's share of its layer over the fair share. 1 is fair, 0 is dead. */
const deadBelow = 0.02
const overloadedAbove = 4
const loadWindow = 32

type StepLike = { step: number; scalars: Record<string, number>; expertCounts: number[] | null }
export type AlertWatch = { push(record: StepLike): Finding[] }

const blank = { value: null, expected: null, field: null, layer: null, experts: [] }

/** Robust z-score of `value` among `history` (0.6745·(x − median)/MAD), and the median. */
export function robustScore(history: readonly number[], value: number): { score: number; median: number } {
  const middle = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!
  const median = middle(history)
  const spread = Math.max(middle(history.map((x) => Math.abs(x - median))), 1e-12)
  return { score: (0.6745 * (value - median)) / spread, median }
}

/** Watches one run. `layers`: the model's layers that have experts, in the order of a record's counts; `experts`: those of each. */
export function createAlertWatch({ layers, experts, perToken }: { layers: readonly number[]; experts: number; perToken: number }): AlertWatch {
  const histories: Record<'loss' | 'gradNorm', number[]> = { loss: [], gradNorm: [] }
  const loads: number[][] = []
  const sums: number[] = []
  /** What is the case now, by kind and layer: told once, and again after it was over. */
  const standing = new Map<string, string>()

  function spikeOf(key: 'loss' | 'gradNorm', { step, scalars }: StepLike): Finding[] {
    const value = scalars[key]
    if (value === undefined || !Number.isFinite(value)) return []
    const history = histories[key]
    // Gradient norms scatter by factors, losses by amounts.
    const [scaled, unscaled] = key === 'gradNorm' ? [Math.log(Math.max(value, 1e-12)), Math.exp] : [value, (x: number) => x]
    const { score, median: middle } = history.length >= leastHistory ? robustScore(history, scaled) : { score: 0, median: scaled }
    const median = unscaled(middle)
    const isSpike = score > spikeScore && value - median > leastRise[key] * Math.max(median, 1e-9)
    history.push(scaled)
    if (history.length > window) history.shift()
    const wasSpike = standing.has(key)
    if (isSpike) standing.set(key, '')
    else standing.delete(key)
    return isSpike && !wasSpike ? [{ ...blank, kind: key === 'loss' ? 'lossSpike' : 'gradientSpike', step, value, expected: median }] : []
  }

  function notFinite({ step, scalars }: StepLike): Finding[] {
    const bad = Object.entries(scalars).find(([, value]) => !Number.isFinite(value))
    return bad === undefined ? [] : [{ ...blank, kind: 'notFinite', step, field: bad[0] }]
  }

  function addLoads(counts: number[]): boolean {
    loads.push(counts)
    counts.forEach((count, i) => (sums[i] = (sums[i] ?? 0) + count))
    if (loads.length > loadWindow) loads.shift()!.forEach((count, i) => (sums[i]! -= count))
    return loads.length === loadWindow
  }

  function expertsOf({ step, expertCounts }: StepLike): Finding[] {
    if (expertCounts === null || experts === 0 || !addLoads(expertCounts)) return []
    const findings: Finding[] = []
    const limit = Math.min(overloadedAbove, 0.9 * (experts / Math.max(1, perToken)))
    for (const [row, layer] of layers.entries()) {
      const own = sums.slice(row * experts, (row + 1) * experts)
      const fair = own.reduce((sum, count) => sum + count, 0) / experts
      if (fair === 0) continue
      const where = (test: (utilisation: number) => boolean): number[] => own.flatMap((count, expert) => (test(count / fair) ? [expert] : []))
      for (const [kind, found] of [['deadExperts', where((u) => u < deadBelow)], ['overloadedExperts', where((u) => u > limit)]] as const) {
        const key = `${kind} ${layer}`
        const known = standing.get(key)?.split(',') ?? []
        if (found.some((expert) => !known.includes(String(expert)))) findings.push({ ...blank, kind, step, layer, experts: [...found] })
        if (found.length > 0) standing.set(key, [...new Set([...known, ...found.map(String)])].join(','))
        else standing.delete(key)
      }
    }
    return findings
  }

  return { push: (record) => [...notFinite(record), ...spikeOf('loss', record), ...spikeOf('gradNorm', record), ...expertsOf(record)] }
}
