/**
 * One training step as three recorded plans over one Backend: micro-batch (forward + backward), update (norm, clip, AdamW), evaluation.
 * It owns the tensors of a run: weights, gradients, moments, inputs, outputs. It knows nothing of data files, schedules or checkpoints.
 * The memory of all of it is known once the plans are recorded (`plannedBytes`), before a step runs.
 */
import { elementCount, persistent, type Backend, type Pending, type Plan, type Tensor, type TensorData } from '#core/backend/backend.ts'
import { planPersistent } from '#core/backend/planner.ts'
import { record } from '#core/backend/record.ts'
import type { Batch } from '#core/model/attention.ts'
import { auxiliaryLosses } from '#core/model/moe.ts'
import { modelBackward, modelForward } from '#core/model/olmoe.ts'
import { createPredictions } from './predictions.ts'
import { declareWeights, listWeights, type Weights } from '#core/model/parameters.ts'
import { moeLayers, type ModelConfig } from '#core/shared/models.ts'
import type { OptimizerConfig } from '#core/shared/runs.ts'

/** Tokens of one micro-batch, all [T]; a target < 0 carries no loss; a token's loss counts in the step's as often as its weight says, which may be negative. */
export type MicroBatch = { ids: Int32Array; targets: Int32Array; lossWeights: Float32Array }

/** Losses unscaled; `total` = crossEntropy + α·loadBalance + β·routerZ; expertCounts [layers with experts × E] over the whole step. */
export type StepLosses = { crossEntropy: number; loadBalance: number; routerZ: number; total: number; expertCounts: number[] }

export type TrainerOptions = {
  model: ModelConfig
  /** Tokens per sequence, and sequences per micro-batch: the static shape of the plans. */
  sequenceLength: number
  sequencesPerMicroBatch: number
  microBatchesPerStep: number
  loadBalanceWeight: number
  routerZWeight: number
  /** Whether losses and predictions of single tokens will be asked for. */
  readsTokens?: boolean
  optimizer: Pick<OptimizerConfig, 'betas' | 'eps' | 'weightDecay' | 'clip'> & Partial<Pick<OptimizerConfig, 'decayNorms' | 'decayEmbeddings'>>
}

export type Trainer = {
  readonly weights: Weights
  readonly gradients: Weights
  /** First and second moments of AdamW. */
  readonly moments: { m: Weights; v: Weights }
  /** Bytes of all persistent tensors, of the scratch arena, and of what the backend's kernels need. */
  readonly plannedBytes: number
  /** Forward and backward of every micro-batch; gradients accumulate. Its losses can be read later, whatever runs in between. */
  accumulate(micros: readonly MicroBatch[]): Promise<Pending<StepLosses>>
  /**
   * Clips, takes AdamW step number `step` (1-based) and zeroes the gradients. Gives the gradient norm before clipping; where that is
   * not finite, weights and moments stay as they are.
   */
  update(learningRate: number, step: number): Promise<Pending<number>>
  /** Σ lossWeights·loss of one micro-batch, without gradients. */
  evaluate(micro: MicroBatch): Promise<Pending<number>>
  /** The loss of every token of one micro-batch, [T]; and with `predictions` the most probable next token after each. Needs `readsTokens`. */
  readTokens(micro: MicroBatch, predictions: boolean): Promise<Pending<TokenReading>>
  /** Frees the run's tensors; the backend stays open. */
  release(): void
}

export type TokenReading = { losses: ArrayLike<number>; predictions: Int32Array | null }

/** Positions 0..sequence−1 of each sequence. */
function positionsOf(tokens: number, sequence: number): Int32Array {
  return Int32Array.from({ length: tokens }, (_, t) => t % sequence)
}

/** The first element of a snapshot's first tensor. */
const firstOf = (reading: Pending<TensorData[]>): Pending<number> => ({ read: async () => (await reading.read())[0]![0]! })

/** Weight decay of one tensor: of all of them, unless the recipe spares norms or the input embedding (reference §2). */
function weightDecayOf({ name }: Tensor, { weightDecay, decayNorms = true, decayEmbeddings = true }: TrainerOptions['optimizer']): number {
  const isSpared = name.endsWith('Norm') ? !decayNorms : name === 'embedding' && !decayEmbeddings
  return isSpared ? 0 : weightDecay
}

/** Losses of a step from those of its micro-batches: (cross-entropy), (load balance, z) by layer, counts by layer. */
function sumLosses(micros: readonly TensorData[][], { model, loadBalanceWeight, routerZWeight }: TrainerOptions): StepLosses {
  const [L, E] = [moeLayers(model).length, model.num_experts]
  const losses: StepLosses = { crossEntropy: 0, loadBalance: 0, routerZ: 0, total: 0, expertCounts: new Array<number>(L * E).fill(0) }
  for (const [crossEntropy, perLayer, ...counts] of micros) {
    losses.crossEntropy += crossEntropy![0]!
    for (let layer = 0; layer < L; layer++) {
      losses.loadBalance += perLayer![2 * layer]! / L / micros.length
      losses.routerZ += perLayer![2 * layer + 1]! / L / micros.length
      for (let e = 0; e < E; e++) losses.expertCounts[layer * E + e]! += counts[layer]![e]!
    }
  }
  losses.total = losses.crossEntropy + loadBalanceWeight * losses.loadBalance + routerZWeight * losses.routerZ
  return losses
}

/** Allocates a run's tensors on `backend` and prepares its plans. Weights are zero until written. */
export async function createTrainer(backend: Backend, options: TrainerOptions): Promise<Trainer> {
  const { model: c, sequenceLength: sequence, microBatchesPerStep, optimizer } = options
  const T = sequence * options.sequencesPerMicroBatch
  const [L, E] = [moeLayers(c).length, c.num_experts]
  const [weights, gradients, m, v] = ['', 'grad.', 'm.', 'v.'].map((prefix) => declareWeights(c, prefix)) as [Weights, Weights, Weights, Weights]
  const batch: Batch = { ids: persistent('ids', [T], 'i32'), positions: persistent('positions', [T], 'i32'), sequence }
  const targets = persistent('targets', [T], 'i32')
  const lossWeights = persistent('lossWeights', [T])
  const lossSum = persistent('lossSum', [1])
  const auxiliary = persistent('auxiliary', [Math.max(1, L), 2])
  const counts = Array.from({ length: L }, (_, i) => persistent(`counts.${i}`, [E], 'i32'))
  const parameters = listWeights(weights)
  const partials = persistent('partials', [parameters.length])
  const scale = persistent('scale', [2])
  const hyper = persistent('hyper', [3])
  const [gradientList, mList, vList] = [listWeights(gradients), listWeights(m), listWeights(v)]
  const tokenLosses = persistent('tokenLosses', [T])
  const predictions = options.readsTokens ? createPredictions(T) : null
  const everything: Tensor[] = [
    ...(predictions ? [tokenLosses, ...predictions.tensors] : []),
    ...parameters, ...gradientList, ...mList, ...vList,
    batch.ids, batch.positions, targets, lossWeights, lossSum, auxiliary, ...counts, partials, scale, hyper,
  ]
  const scales = {
    loadBalance: options.loadBalanceWeight / Math.max(1, L) / microBatchesPerStep,
    routerZ: options.routerZWeight / Math.max(1, L) / microBatchesPerStep,
  }

  const microPlan = record('micro-batch', (b) => {
    const kept = modelForward(b, c, weights, batch, { counts })
    const [loss, lse] = [b.scratch('loss', [T]), b.scratch('lse', [T])]
    b.headCrossEntropyForward({ loss, lse, x: kept.final, weight: weights.head, targets })
    b.weightedSumForward({ sum: lossSum, values: loss, weights: lossWeights })
    auxiliaryLosses(b, kept.routed, kept.loads, auxiliary)
    const dFinal = b.scratch('dFinal', kept.final.shape)
    b.headCrossEntropyBackward({ dX: dFinal, dWeight: gradients.head, x: kept.final, weight: weights.head, targets, lse, dLoss: lossWeights })
    modelBackward(b, c, weights, gradients, batch, kept, dFinal, scales)
  })
  const updatePlan = record('update', (b) => {
    const [beta1, beta2] = optimizer.betas
    gradientList.forEach((x, index) => b.sumOfSquares({ partials, x, index }))
    b.clipScale({ scale, partials, maxNorm: optimizer.clip })
    parameters.forEach((param, i) => {
      const state = { param, m: mList[i]!, v: vList[i]!, grad: gradientList[i]! }
      b.adamwStep({ ...state, scale, hyper, beta1, beta2, eps: optimizer.eps, weightDecay: weightDecayOf(param, optimizer) })
    })
  })
  const evaluationPlan = record('evaluation', (b) => {
    const { final } = modelForward(b, c, weights, batch)
    const [loss, lse] = [b.scratch('loss', [T]), b.scratch('lse', [T])]
    b.headCrossEntropyForward({ loss, lse, x: final, weight: weights.head, targets })
    b.weightedSumForward({ sum: lossSum, values: loss, weights: lossWeights })
  })

  const tokensPlan = (name: string, predicts: boolean): Plan =>
    record(name, (b) => {
      const { final } = modelForward(b, c, weights, batch)
      b.headCrossEntropyForward({ loss: tokenLosses, lse: b.scratch('lse', [T]), x: final, weight: weights.head, targets })
      if (predicts) predictions!.record(b, final, weights.head)
    })

  backend.allocate(everything)
  const tokens = predictions && [await backend.prepare(tokensPlan('token losses', false)), await backend.prepare(tokensPlan('predictions', true))]
  const [micro, update, evaluation] = [await backend.prepare(microPlan), await backend.prepare(updatePlan), await backend.prepare(evaluationPlan)]
  // Every page will be used by the first step; until then weights are drawn or read.
  backend.populate?.()
  await backend.write(batch.positions, positionsOf(T, sequence))
  await predictions?.initialise(backend)

  const load = async (data: MicroBatch): Promise<void> => {
    await backend.write(batch.ids, data.ids)
    await backend.write(targets, data.targets)
    await backend.write(lossWeights, data.lossWeights)
  }

  return {
    weights,
    gradients,
    moments: { m, v },
    plannedBytes: planPersistent(everything).totalBytes + Math.max(micro.scratchBytes, update.scratchBytes, evaluation.scratchBytes, ...(tokens ?? []).map((plan) => plan.scratchBytes)) + (backend.kernelBytes?.() ?? 0),
    async accumulate(micros) {
      const readings: Pending<TensorData[]>[] = []
      for (const data of micros) {
        await load(data)
        await micro.run()
        readings.push(backend.snapshot([lossSum, auxiliary, ...counts]))
      }
      return { read: async () => sumLosses(await Promise.all(readings.map((reading) => reading.read())), options) }
    },
    async update(learningRate, step) {
      const [beta1, beta2] = optimizer.betas
      await backend.write(hyper, Float32Array.of(learningRate, 1 - beta1 ** step, 1 - beta2 ** step))
      await update.run()
      return firstOf(backend.snapshot([scale]))
    },
    async evaluate(data) {
      await load(data)
      await evaluation.run()
      return firstOf(backend.snapshot([lossSum]))
    },
    async readTokens(data, predicts) {
      if (!tokens) throw new Error('this trainer was not made to read tokens')
      await load(data)
      await tokens[Number(predicts)]!.run()
      const reading = backend.snapshot([tokenLosses, ...(predicts ? predictions!.outputs : [])])
      return {
        read: async () => {
          const [losses, ...parts] = await reading.read()
          return { losses: losses!, predictions: predicts ? Int32Array.from(parts.flatMap((part) => [...part])) : null }
        },
      }
    },
    release: () => backend.release(everything),
  }
}

/** Bytes of the float32 elements of `tensors`. */
export function bytesOf(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, tensor) => sum + 4 * elementCount(tensor), 0)
}
