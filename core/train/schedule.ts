/** Learning-rate schedules over steps (reference section 2): linear warm-up from a tenth of the peak, then cosine, linear or constant. */
import type { OptimizerConfig } from '#core/shared/runs.ts'

/** Learning rate of step `step` (1-based) of `steps`. The last step has the minimum; warm-up reaches the peak at step warmupSteps. */
export function learningRateAt(step: number, steps: number, config: Pick<OptimizerConfig, 'peakLearningRate' | 'minLearningRate' | 'warmupSteps' | 'schedule'>): number {
  const { peakLearningRate: peak, minLearningRate: min, warmupSteps, schedule } = config
  if (step <= warmupSteps) return 0.1 * peak + 0.9 * peak * (step / warmupSteps)
  if (schedule === 'constant') return peak
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps))
  return schedule === 'cosine' ? min + ((peak - min) * (1 + Math.cos(Math.PI * progress))) / 2 : peak + (min - peak) * progress
}
