/**
 * Whether a recipe fits a device, and how fast it trains there: real steps on random tokens and random weights, for at most
 * `probeBudgetMs`. Nothing is written. A recipe that does not fit ends the job with the error that a run would end with.
 */
import { elementCount, type Backend, type Tensor } from '#core/backend/backend.ts'
import { listWeights } from '#core/model/parameters.ts'
import { probeBudgetMs, spreadOf, type MemoryPlan } from '#core/shared/devices.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Job } from '#core/shared/jobs.ts'
import { createRandom } from '#core/shared/random.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { sequencesPerMicroBatch, trainerOptionsOf } from '#core/train/options.ts'
import { createTrainer, type MicroBatch, type Trainer } from '#core/train/trainer.ts'
import type { JobContext } from './context.ts'
import { machineMemoryBytes, openDevice } from './device.ts'
import { planMemory } from './memory-plan.ts'

type ProbeJob = Extract<Job, { kind: 'probe' }>

const mostSamples = 30
/** A prime, so that rows of a weight do not repeat. */
const noiseLength = 65_537

/** Weights that route about evenly, made in no time: initialising as a run does takes longer than the probe may. */
async function fillWeights(backend: Backend, weights: readonly Tensor[], range: number): Promise<void> {
  const random = createRandom(0, 'probe/weights')
  const noise = Float32Array.from({ length: noiseLength }, () => random.nextNormal() * range)
  for (const tensor of weights) {
    const values = new Float32Array(elementCount(tensor))
    if (tensor.name.endsWith('Norm')) values.fill(1)
    else for (let at = 0; at < values.length; at += noiseLength) values.set(noise.subarray(0, Math.min(noiseLength, values.length - at)), at)
    await backend.write(tensor, values)
  }
}

/** The system promises memory that it does not have and then ends the process: better to say so before. */
function requireMemory({ plannedBytes, memoryBytes }: MemoryPlan): void {
  if (memoryBytes === null || plannedBytes <= memoryBytes) return
  throw new AppError('backend.memory', `The recipe needs ${plannedBytes} bytes, this machine has ${memoryBytes}`, {
    params: { sizeBytes: plannedBytes },
    hint: 'Choose a smaller model, shorter sequences or fewer sequences per micro-batch.',
  })
}

/** One more step each time it is called: milliseconds of a whole step, from at most `micros` of its micro-batches. */
function createStepTimer(trainer: Trainer, config: RunConfig): (micros: number) => Promise<number> {
  const random = createRandom(0, 'probe/tokens')
  const tokens = sequencesPerMicroBatch(config) * config.sequenceLength
  const lossWeights = new Float32Array(tokens).fill(1 / (config.sequencesPerStep * config.sequenceLength))
  const draw = (): Int32Array => Int32Array.from({ length: tokens }, () => random.nextBelow(config.model.vocab_size))
  const all = config.sequencesPerStep / sequencesPerMicroBatch(config)
  let step = 0
  return async (micros) => {
    const batches: MicroBatch[] = Array.from({ length: micros }, () => ({ ids: draw(), targets: draw(), lossWeights }))
    const startedAt = performance.now()
    await trainer.accumulate(batches)
    const accumulatedAt = performance.now()
    await trainer.update(config.optimizer.minLearningRate, ++step)
    return ((accumulatedAt - startedAt) * all) / micros + performance.now() - accumulatedAt
  }
}

/** Times of whole steps until the time or the samples are used up; at least one, which is the warm-up's if there is no more time. */
async function timeSteps(trainer: Trainer, config: RunConfig, untilMs: number, onSample: (count: number) => void, isStopped: () => boolean): Promise<number[]> {
  const timeStep = createStepTimer(trainer, config)
  const all = config.sequencesPerStep / sequencesPerMicroBatch(config)
  const startedAt = performance.now()
  const warmUpMs = await timeStep(1)
  const elapsedMs = performance.now() - startedAt
  const left = untilMs - performance.now()
  // Three samples should fit; of many micro-batches only some are run.
  const micros = Math.max(1, Math.min(all, Math.floor(left / 3 / elapsedMs)))
  const sampleMs = elapsedMs * micros
  const samples: number[] = []
  while (samples.length < mostSamples && performance.now() + sampleMs < untilMs && !isStopped()) {
    samples.push(await timeStep(micros))
    onSample(samples.length)
  }
  return samples.length > 0 ? samples : [warmUpMs]
}

export async function runProbeJob({ config, peakFlopsPerSecond }: ProbeJob, context: JobContext): Promise<'done' | 'stopped'> {
  const startedAt = performance.now()
  const phase = (name: string, done: number, total: number | null): void =>
    context.send({ type: 'phase', phase: { phase: name, done, total, unit: '', etaSeconds: null } })
  const elapsed = (): number => Math.min(1, (performance.now() - startedAt) / probeBudgetMs)

  phase('plan', 0, null)
  const planned = await planMemory(config)
  const memoryOf = (bindingLimitBytes: number | null): MemoryPlan => ({ ...planned, bindingLimitBytes, memoryBytes: config.device === 'cpu' ? machineMemoryBytes() : null })
  context.send({ type: 'memory', memory: memoryOf(null) })
  requireMemory(memoryOf(null))
  phase('open', elapsed(), 1)
  const { backend, about, bindingLimitBytes } = await openDevice(config)
  const memory = memoryOf(bindingLimitBytes)
  context.send({ type: 'memory', memory })
  phase('prepare', elapsed(), 1)
  const trainer = await createTrainer(backend, trainerOptionsOf(config))
  await fillWeights(backend, listWeights(trainer.weights), config.model.initializer_range)
  phase('steps', elapsed(), 1)
  const stepMs = await timeSteps(trainer, config, startedAt + probeBudgetMs, () => phase('steps', elapsed(), 1), () => context.stopRequest() !== 'none')
  await backend.close()

  const tokensPerStep = config.sequencesPerStep * config.sequenceLength
  const spread = spreadOf(stepMs)
  const tokensPerSecond = { median: (1000 * tokensPerStep) / spread.median, min: (1000 * tokensPerStep) / spread.max, max: (1000 * tokensPerStep) / spread.min }
  const device = { ...about, flopsPerSecond: peakFlopsPerSecond }
  context.send({ type: 'probed', result: { device, memory, tokensPerSecond, stepMs: spread, samples: stepMs.length, totalSeconds: (spread.median * config.steps) / 1000 } })
  return context.stopRequest() === 'none' ? 'done' : 'stopped'
}
