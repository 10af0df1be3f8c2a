/**
 * Recipes of later stages: what annealing, continuing, forking, upcycling and adapting take over from the run whose checkpoint they start from,
 * and what they set themselves (reference sections 2 and 4.1.5). A proposal: everything in it can be changed before it is created.
 */
import { adaptationSchema, isAdaptation, type AdaptationStage } from './adaptation.ts'
import type { ModelConfig } from './models.ts'
import { learningRateFactor } from './run-control.ts'
import type { RunConfig, Stage } from './runs.ts'

export type StartingPoint = { checkpointId: string; step: number; config: RunConfig; learningRate: number | null }

/** Annealing in the paper: 23,842 steps after 1,200,000. */
const annealShare = 0.02
const leastAnnealSteps = 20
const defaultSteps = 1000
/** The seed of the annealed data order: the paper reshuffles with another one. */
const annealSeedOffset = 1
const upcycleExperts = { num_experts: 8, num_experts_per_tok: 2 }

export function recipeFor(stage: Exclude<Stage, 'pretrain' | 'import'>, { checkpointId, step, config, learningRate }: StartingPoint): RunConfig {
  const base: RunConfig = {
    ...config,
    stage,
    adaptation: null,
    // A later stage begins here; what a cluster trained came back without its moments.
    cluster: null,
    name: `${config.name} · ${stage}`.slice(0, 120),
    // A model from elsewhere brings no moments and no length.
    steps: config.steps || defaultSteps,
    startFrom: { checkpointId, optimizer: stage !== 'upcycle' && config.stage !== 'import' && config.cluster === null && !isAdaptation(stage), noise: 0 },
    control: { ...config.control, learningRateChanges: [], skips: [] },
  }
  const now = learningRate ?? config.optimizer.peakLearningRate
  const optimizer = { ...config.optimizer, warmupSteps: 0, decaySteps: 0, scheduleSteps: null }
  switch (stage) {
    case 'anneal':
      return {
        ...base,
        steps: Math.max(leastAnnealSteps, Math.round(annealShare * step)),
        dataSeed: (config.dataSeed ?? config.seed) + annealSeedOffset,
        optimizer: { ...optimizer, schedule: 'linear', peakLearningRate: now, minLearningRate: 0 },
      }
    case 'continue':
      return { ...base, optimizer: { ...optimizer, schedule: 'constant', peakLearningRate: now, minLearningRate: Math.min(now, config.optimizer.minLearningRate) } }
    case 'fork':
      return { ...base, steps: Math.max(config.steps, step + 1), control: { ...config.control, learningRateChanges: keptChanges(config, step) } }
    case 'upcycle':
      return { ...base, model: upcycledModel(config.model), optimizer: { ...config.optimizer, scheduleSteps: null } }
    case 'sft':
    case 'dpo':
    case 'kto':
      return { ...base, ...adaptationOf(stage, config) }
  }
}

/** The paper's adaptation (reference §3.3–3.5). Learning rates are the paper's in proportion to the peak of pretraining, 4e-4. */
const adaptations = {
  sft: { sequences: 128, epochs: 2, warmupShare: 0.03, ofPeak: 2e-5 / 4e-4, reduce: 'sum', data: 'instructions' },
  dpo: { sequences: 32, epochs: 3, warmupShare: 0.1, ofPeak: 5e-7 / 4e-4, reduce: 'mean', data: 'preferences' },
  kto: { sequences: 32, epochs: 1.3, warmupShare: 0.1, ofPeak: 5e-7 / 4e-4, reduce: 'mean', data: 'preferences' },
} as const

/** Fresh moments, no weight decay, no clipping, no auxiliary losses (Section 4.3 found them to hurt), a linear decay to 0. */
function adaptationOf(stage: AdaptationStage, { optimizer, sequencesPerStep, sequencesPerMicroBatch, adaptation, stage: before }: RunConfig): Partial<RunConfig> {
  const { sequences, epochs, warmupShare, ofPeak, reduce, data } = adaptations[stage]
  const micro = sequencesPerMicroBatch ?? sequencesPerStep
  const peak = isAdaptation(before) ? (optimizer.peakLearningRate * ofPeak) / adaptations[before].ofPeak : optimizer.peakLearningRate * ofPeak
  return {
    sequencesPerStep: Math.ceil(sequences / micro) * micro,
    sequencesPerMicroBatch: micro,
    loadBalanceWeight: 0,
    routerZWeight: 0,
    optimizer: { ...optimizer, schedule: 'linear', peakLearningRate: peak, minLearningRate: 0, warmupStart: 0, warmupSteps: 0, scheduleSteps: null, decaySteps: 0, betas: [0.9, 0.999], weightDecay: 0, clip: 0 },
    adaptation: adaptationSchema.parse({ ...adaptation, data: [data], mapping: null, epochs, warmupShare, reduce }),
  }
}

const keptChanges = (config: RunConfig, step: number): RunConfig['control']['learningRateChanges'] => {
  const factor = learningRateFactor(config.control, step)
  return factor === 1 ? [] : [{ fromStep: step + 1, factor }]
}

/** Every expert gets the dense network's width: cloning keeps it whole. Layers that stay dense keep theirs. */
export function upcycledModel(model: ModelConfig, experts = upcycleExperts): ModelConfig {
  const width = model.dense_intermediate_size ?? model.intermediate_size
  return { ...model, ...experts, num_shared_experts: 0, intermediate_size: width, dense_intermediate_size: model.decoder_sparse_step > 1 ? width : null }
}
