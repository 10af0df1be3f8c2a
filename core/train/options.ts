/** What a run's recipe says of its trainer; the same for a run and for the probe that asks beforehand whether it fits. */
import { isAdaptation } from '#core/shared/adaptation.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import type { TrainerOptions } from './trainer.ts'

/** Sequences of one micro-batch: the whole step unless the recipe cuts it. */
export const sequencesPerMicroBatch = (config: RunConfig): number => config.sequencesPerMicroBatch ?? config.sequencesPerStep

/** Sequences whose gradient makes up a step: DPO trains both answers of a pair. */
export const trainedSequences = (config: RunConfig): number => config.sequencesPerStep * (config.stage === 'dpo' ? 2 : 1)

export function trainerOptionsOf(config: RunConfig): TrainerOptions {
  const perMicro = sequencesPerMicroBatch(config)
  return {
    model: config.model,
    sequenceLength: config.sequenceLength,
    sequencesPerMicroBatch: perMicro,
    microBatchesPerStep: trainedSequences(config) / perMicro,
    loadBalanceWeight: config.loadBalanceWeight,
    routerZWeight: config.routerZWeight,
    optimizer: config.optimizer,
    readsTokens: isAdaptation(config.stage),
  }
}
