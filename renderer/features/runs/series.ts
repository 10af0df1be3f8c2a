/**
 * Arithmetic on the series of a run, free of the page: appending, rewinding, smoothing, and putting several series on one
 * axis. Steps ascend strictly within a series.
 */
import type { Series, StepRecord } from '#core/shared/runs.ts'

export type SeriesMap = Map<string, Series>

/** Adds the scalars of new steps; steps that a series has already are left alone. */
export function appendSteps(series: SeriesMap, records: readonly StepRecord[]): void {
  for (const { step, scalars } of records) {
    for (const [key, value] of Object.entries(scalars)) {
      let own = series.get(key)
      if (!own) series.set(key, (own = { key, steps: [], values: [] }))
      if (step <= (own.steps.at(-1) ?? -1)) continue
      own.steps.push(step)
      own.values.push(value)
    }
  }
}

/** Drops every point after `step`. */
export function rewind(series: SeriesMap, step: number): void {
  for (const { steps, values } of series.values()) {
    while (steps.length > 0 && steps.at(-1)! > step) {
      steps.pop()
      values.pop()
    }
  }
}

/**
 * Exponential moving average with bias correction, so that the first points are not pulled towards zero.
 * `weight` in [0, 1) is the share of the past; 0 returns the values.
 */
export function smooth(values: readonly number[], weight: number): number[] {
  if (weight <= 0) return [...values]
  let average = 0
  let scale = 1
  return values.map((value) => {
    average = weight * average + (1 - weight) * value
    scale *= weight
    return average / (1 - scale)
  })
}

/** Several series on the union of their steps; null where a series has no point. */
export function align(series: readonly { steps: readonly number[]; values: readonly number[] }[]): { steps: number[]; columns: (number | null)[][] } {
  const first = series[0]
  if (!first) return { steps: [], columns: [] }
  if (series.every(({ steps }) => steps.length === first.steps.length && steps.every((step, i) => step === first.steps[i]))) {
    return { steps: [...first.steps], columns: series.map(({ values }) => [...values]) }
  }
  const steps = [...new Set(series.flatMap((one) => [...one.steps]))].sort((a, b) => a - b)
  const columns = series.map((one) => {
    const at = new Map(one.steps.map((step, i) => [step, one.values[i]!]))
    return steps.map((step) => at.get(step) ?? null)
  })
  return { steps, columns }
}

/** A series with finer points in place of its own where `detail` has some. */
export function withDetail(whole: Series, detail: Series): Series {
  const [from, to] = [detail.steps[0], detail.steps.at(-1)]
  if (from === undefined || to === undefined) return whole
  const before = whole.steps.findIndex((step) => step >= from)
  const after = whole.steps.findIndex((step) => step > to)
  const join = (own: readonly number[], finer: readonly number[]): number[] => [...own.slice(0, before < 0 ? own.length : before), ...finer, ...(after < 0 ? [] : own.slice(after))]
  return { key: whole.key, steps: join(whole.steps, detail.steps), values: join(whole.values, detail.values) }
}

/**
 * Training seconds at given steps, from the speed series: each step took tokensPerStep / tokensPerSecond.
 * Between thinned points the speed is taken as constant. Empty speeds give null (no time axis yet).
 */
export function secondsOfSteps(speed: Series | undefined, tokensPerStep: number): ((step: number) => number) | null {
  if (!speed || speed.steps.length === 0) return null
  const sums: number[] = []
  let seconds = 0
  let before = 0
  for (let i = 0; i < speed.steps.length; i++) {
    seconds += ((speed.steps[i]! - before) * tokensPerStep) / Math.max(1e-9, speed.values[i]!)
    before = speed.steps[i]!
    sums.push(seconds)
  }
  return (step) => {
    let low = 0
    let high = speed.steps.length - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if (speed.steps[middle]! < step) low = middle + 1
      else high = middle
    }
    return sums[low]! + ((step - speed.steps[low]!) * tokensPerStep) / Math.max(1e-9, speed.values[low]!)
  }
}
