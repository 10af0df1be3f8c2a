/** A checkpoint as the beginning of a later stage: the recipe that made it and the learning rate it had. */
import type { StartingPoint } from '#core/shared/stages.ts'
import { readSeries } from '#core/store/metrics.ts'
import { findRun, runNumber } from '#core/store/runs.ts'
import { requireCheckpoint } from '../checkpoints/checkpoints.ts'
import type { Services } from '../services.ts'

/** Throws checkpoints.notFound. */
export function startingPoint({ store }: Pick<Services, 'store'>, checkpointId: string): StartingPoint {
  const { runId, step } = requireCheckpoint({ store }, checkpointId)
  const { values } = readSeries(store, runNumber(store, runId)!, 'learningRate', { maxPoints: 2, fromStep: step, toStep: step })
  return { checkpointId, step, config: findRun(store, runId)!.config, learningRate: values.at(-1) ?? null }
}
