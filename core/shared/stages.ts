/**
 * The recipe that a later stage begins with, made from the checkpoint it starts from and that checkpoint's own recipe. Pure: the
 * wizard and the command line show and change what it gives.
 */
import type { ModelConfig } from './models.ts'
import type { RunConfig, Stage } from './runs.ts'
import { learningRateAt } from './schedule.ts'

/** A checkpoint and the recipe it was trained by. */
export type StageStart = { checkpointId: string; step: number; config: RunConfig }

/** OLMoE anneals over 23,842 steps after 1,200,000 (reference §2); a short run gets at least this many, if it has them. */
const annealShare = 0.02
const leastAnnealSteps = 100
/** Upcycled models of the paper: 8 experts, 2 of them for each token (reference §4.1.5). */
const upcycled = { num_experts: 8, num_experts_per_tok: 2 }

/** The sparse model of a dense one: every expert as wide as the feed-forward network it is cloned from. */
export function upcycledModel(dense: ModelConfig, experts: { num_experts: number; num_experts_per_tok: number } = upcycled): ModelConfig {
  const width = dense.dense_intermediate_size ?? dense.intermediate_size
  return { ...dense, ...experts, num_shared_experts: 0, intermediate_size: width, dense_intermediate_size: dense.decoder_sparse_step > 1 ? width : null }
}

/** The recipe of stage `stage` from `start`. */
export function stageRecipe(stage: Exclude<Stage, 'pretrain'>, { checkpointId, step, config }: StageStart): RunConfig {
  const recipe = { ...structuredClone(config), stage, startFrom: { checkpointId, optimizer: stage !== 'upcycle', noise: 0 } }
  if (stage === 'upcycle') return { ...recipe, model: upcycledModel(config.model) }
  if (stage !== 'anneal') return recipe
  return {
    ...recipe,
    steps: Math.max(Math.ceil(annealShare * step), Math.min(step, leastAnnealSteps), 1),
    // The same instances in another order; OLMoE's is 42.
    dataSeed: (config.dataSeed ?? config.seed) === 42 ? 43 : 42,
    optimizer: { ...config.optimizer, schedule: 'linear', peakLearningRate: learningRateAt(step, config.steps, config.optimizer), minLearningRate: 0, warmupSteps: 0, scheduleSteps: null, decaySteps: 0 },
  }
}
