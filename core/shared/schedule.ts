/** Learning-rate schedules over steps (reference section 2): linear warm-up from a fraction of the peak, then a curve to the minimum, which stays. */
import type { OptimizerConfig } from '#core/shared/runs.ts'

export type Schedule = Pick<OptimizerConfig, 'peakLearningRate' | 'minLearningRate' | 'warmupSteps' | 'schedule'> & Partial<Pick<OptimizerConfig, 'warmupStart' | 'scheduleSteps' | 'decaySteps'>>

/** Share of the way from the peak to the minimum after `step` of `steps`. */
function descent(step: number, steps: number, { schedule, warmupSteps, decaySteps = 0 }: Schedule): number {
  const within = (from: number): number => Math.min(1, Math.max(0, (step - from) / Math.max(1, steps - from)))
  switch (schedule) {
    case 'constant':
      return 0
    case 'linear':
      return within(warmupSteps)
    case 'cosine':
      return (1 - Math.cos(Math.PI * within(warmupSteps))) / 2
    case 'warmup-stable-decay':
      return within(steps - decaySteps)
  }
}

/** The learning rate over a run as a line: at most about `points` steps, the corners of the schedule among them. */
export function learningRateCurve(steps: number, config: Schedule, points = 240): { steps: number[]; rates: number[] } {
  const end = config.scheduleSteps ?? steps
  const corners = [1, config.warmupSteps, config.warmupSteps + 1, end - (config.decaySteps ?? 0), end, steps]
  const even = Array.from({ length: points }, (_, i) => Math.round(1 + (i / (points - 1)) * (steps - 1)))
  const shown = [...new Set([...corners, ...even])].filter((step) => step >= 1 && step <= steps).sort((a, b) => a - b)
  return { steps: shown, rates: shown.map((step) => learningRateAt(step, steps, config)) }
}

/** Learning rate of step `step` (1-based) of `steps`. The schedule's last step has the minimum; warm-up reaches the peak at step warmupSteps. */
export function learningRateAt(step: number, steps: number, config: Schedule): number {
  const { peakLearningRate: peak, minLearningRate: min, warmupSteps, warmupStart = 0.1, scheduleSteps } = config
  if (step <= warmupSteps) return peak * (warmupStart + (1 - warmupStart) * (step / warmupSteps))
  return peak + (min - peak) * descent(step, scheduleSteps ?? steps, config)
}
