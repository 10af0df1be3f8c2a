/**
 * SFT, DPO and KTO as what a training loop asks for: the micro-batches of a step, whose token weights carry the objective's derivative, and
 * held-out scalars. DPO and KTO run the answers forward first, because the weight of an answer depends on its probability; the backward
 * pass then is the one that pretraining has. The order is a shuffle per pass, a function of seed and position.
 */
import type { Dataset, DatasetSplit } from '#core/data/conversations/dataset.ts'
import type { Instance, Sequence } from '#core/data/conversations/encode.ts'
import { createRandom, permutation } from '#core/shared/random.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import type { TokenRows } from './batch.ts'
import type { StepBatch } from './loop.ts'
import { dpo, kto, type Answered, type ObjectiveResult } from './objectives.ts'
import { sequencesPerMicroBatch } from './options.ts'
import type { MicroBatch, Trainer } from './trainer.ts'

/** log π_ref of every sequence of the data, in its order. */
export type ReferenceLogProbs = Record<DatasetSplit, Float64Array>

export type AdapterOptions = {
  trainer: Trainer
  config: RunConfig
  dataset: Dataset
  /** Null for SFT. */
  reference: ReferenceLogProbs | null
}

export type Adapter = {
  stepBatch(position: number, count: number): Promise<StepBatch>
  evaluate(): Promise<Record<string, number>>
}

/** Held-out instances that are read forward at a time. */
const evaluatedTogether = 16

/** Sequences as rows of `length` tokens, padded with end-of-text; a token without loss is no target. */
export function rowsOf(sequences: readonly Sequence[], length: number, eosId: number): TokenRows {
  const rows = { ids: new Int32Array(sequences.length * length).fill(eosId), targets: new Int32Array(sequences.length * length).fill(-1) }
  sequences.forEach(({ ids, loss }, i) => {
    rows.ids.set(ids, i * length)
    for (let t = 1; t < ids.length; t++) if (loss[t]) rows.targets[i * length + t - 1] = ids[t]!
  })
  return rows
}

type Shape = { length: number; perMicro: number; eosId: number }

const shapeOf = (config: RunConfig): Shape => ({ length: config.sequenceLength, perMicro: sequencesPerMicroBatch(config), eosId: config.model.eos_token_id ?? 0 })

/** Micro-batches of `sequences`, the last one filled up with empty rows; `weightOf` gives the weight of a sequence's tokens. */
function microBatches(sequences: readonly Sequence[], { length, perMicro, eosId }: Shape, weightOf: (sequence: number) => number): MicroBatch[] {
  return Array.from({ length: Math.ceil(sequences.length / perMicro) }, (_, micro) => {
    const part = sequences.slice(micro * perMicro, (micro + 1) * perMicro)
    const padded = [...part, ...Array.from({ length: perMicro - part.length }, (): Sequence => ({ ids: [], loss: [] }))]
    const rows = rowsOf(padded, length, eosId)
    return { ...rows, lossWeights: Float32Array.from(rows.targets, (target, t) => (target < 0 ? 0 : weightOf(micro * perMicro + Math.floor(t / length)))) }
  })
}

/** Sum of the log-probabilities of the answer tokens of each sequence. */
export async function sequenceLogProbs(trainer: Trainer, sequences: readonly Sequence[], config: RunConfig): Promise<number[]> {
  const shape = shapeOf(config)
  const sums: number[] = []
  for (const micro of microBatches(sequences, shape, () => 1)) {
    const { losses } = await (await trainer.readTokens(micro, false)).read()
    for (let row = 0; row < shape.perMicro; row++) {
      let sum = 0
      for (let t = row * shape.length; t < (row + 1) * shape.length; t++) if (micro.targets[t]! >= 0) sum -= losses[t]!
      sums.push(sum)
    }
  }
  return sums.slice(0, sequences.length)
}

/** log-probabilities of all of the data under the trainer's weights as they are. */
export async function computeReference(trainer: Trainer, config: RunConfig, dataset: Dataset, onProgress: (done: number, total: number) => void): Promise<ReferenceLogProbs> {
  const { instances, sequencesPerInstance } = dataset.manifest
  const total = instances.train + instances.heldOut
  let done = 0
  const split = async (name: DatasetSplit): Promise<Float64Array> => {
    const values = new Float64Array(instances[name] * sequencesPerInstance)
    for (let from = 0; from < instances[name]; from += evaluatedTogether) {
      const some = Array.from({ length: Math.min(evaluatedTogether, instances[name] - from) }, (_, i) => dataset.read(name, from + i).sequences)
      values.set(await sequenceLogProbs(trainer, some.flat(), config), from * sequencesPerInstance)
      onProgress((done += some.length), total)
    }
    return values
  }
  return { train: await split('train'), heldOut: await split('heldOut') }
}

/** The adapter of a run. */
export function createAdapter({ trainer, config, dataset, reference }: AdapterOptions): Adapter {
  const shape = shapeOf(config)
  const settings = config.adaptation!
  const { instances: count, sequencesPerInstance } = dataset.manifest
  const seed = config.dataSeed ?? config.seed
  const orders = new Map<number, Uint32Array>()
  const instanceAt = (position: number): number => {
    const pass = Math.floor(position / count.train)
    if (!orders.has(pass)) {
      // A batch spans two passes at most.
      for (const old of orders.keys()) if (old < pass - 1) orders.delete(old)
      orders.set(pass, permutation(count.train, createRandom(seed, `conversations in pass ${pass}`)))
    }
    return orders.get(pass)![position % count.train]!
  }

  const sft = (instances: readonly Instance[]): StepBatch => {
    const sequences = instances.flatMap((instance) => instance.sequences)
    const targets = rowsOf(sequences, shape.length, shape.eosId).targets.filter((target) => target >= 0).length
    const weight = settings.reduce === 'mean' ? 1 / Math.max(1, targets) : 1
    return { micros: microBatches(sequences, shape, () => weight) }
  }

  /** The objective of instances `numbers` of a split; answers that are trained come first in `trained`. */
  const compare = async (split: DatasetSplit, numbers: readonly number[]): Promise<{ trained: Sequence[]; result: ObjectiveResult }> => {
    const instances = numbers.map((number) => dataset.read(split, number))
    const policy = await sequenceLogProbs(trainer, instances.flatMap(({ sequences }) => sequences), config)
    const answers = policy.map((value, i): Answered => ({ policy: value, reference: reference![split][numbers[Math.floor(i / 2)]! * 2 + (i % 2)]! }))
    if (config.stage === 'dpo') return { trained: instances.flatMap(({ sequences }) => sequences), result: dpo(answers, settings.beta) }
    const labelled = instances.map(({ desirable }, i) => ({ ...answers[2 * i]!, desirable }))
    return { trained: instances.map(({ sequences }) => sequences[0]!), result: kto(labelled, answers.filter((_, i) => i % 2 === 1), settings) }
  }

  const evaluateSft = async (): Promise<Record<string, number>> => {
    let [loss, right, targets] = [0, 0, 0]
    for (let from = 0; from < count.heldOut; from += shape.perMicro) {
      const some = Array.from({ length: Math.min(shape.perMicro, count.heldOut - from) }, (_, i) => dataset.read('heldOut', from + i).sequences[0]!)
      for (const micro of microBatches(some, shape, () => 1)) {
        const read = await (await trainer.readTokens(micro, true)).read()
        micro.targets.forEach((target, t) => {
          if (target < 0) return
          targets++
          loss += read.losses[t]!
          right += Number(read.predictions![t] === target)
        })
      }
    }
    return targets === 0 ? {} : { validation: loss / targets, 'validation/tokenAccuracy': right / targets }
  }

  const evaluatePreferences = async (): Promise<Record<string, number>> => {
    if (count.heldOut === 0) return {}
    const { result } = await compare('heldOut', Array.from({ length: count.heldOut }, (_, i) => i))
    return { validation: result.loss, ...Object.fromEntries(Object.entries(result.scalars).map(([key, value]) => [`validation/${key}`, value])) }
  }

  return {
    async stepBatch(position, wanted) {
      const numbers = Array.from({ length: wanted }, (_, i) => instanceAt(position + i))
      if (sequencesPerInstance === 1) return sft(numbers.map((number) => dataset.read('train', number)))
      const { trained, result } = await compare('train', numbers)
      // A token's loss is −log π: its weight is minus the derivative by log π.
      return { micros: microBatches(trained, shape, (i) => -result.derivatives[i]!), scalars: { loss: result.loss, ...result.scalars } }
    },
    evaluate: config.stage === 'sft' ? evaluateSft : evaluatePreferences,
  }
}
