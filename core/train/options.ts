/** What a run's recipe says of its trainer; the same for a run and for the probe that asks beforehand whether it fits. */
import type { RunConfig } from '#core/shared/runs.ts'
import type { TrainerOptions } from './trainer.ts'

/** Sequences of one micro-batch: the whole step unless the recipe cuts it. */
export const sequencesPerMicroBatch = (config: RunConfig): number => config.sequencesPerMicroBatch ?? config.sequencesPerStep

export function trainerOptionsOf(config: RunConfig): TrainerOptions {
  const perMicro = sequencesPerMicroBatch(config)
  return {
    model: config.model,
    sequenceLength: config.sequenceLength,
    sequencesPerMicroBatch: perMicro,
    microBatchesPerStep: config.sequencesPerStep / perMicro,
    loadBalanceWeight: config.loadBalanceWeight,
    routerZWeight: config.routerZWeight,
    optimizer: config.optimizer,
  }
}
