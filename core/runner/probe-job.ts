/**
 * Whether a recipe fits a device, and how fast it trains there: real steps on random tokens and random weights, for at most
 * `probeBudgetMs`. Nothing is written. A recipe that does not fit ends the job with the error that a run would end with.
 */
import { elementCount, type Backend, type Pending, type Tensor } from '#core/backend/backend.ts'
import { listWeights } from '#core/model/parameters.ts'
import { probeBudgetMs, spreadOf, type MemoryPlan } from '#core/shared/devices.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Job } from '#core/shared/jobs.ts'
import { createRandom } from '#core/shared/random.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { sequencesPerMicroBatch, trainerOptionsOf } from '#core/train/options.ts'
import { createTrainer, type MicroBatch, type Trainer } from '#core/train/trainer.ts'
import type { JobContext } from './context.ts'
import { kernelsOf, openDevice, peakFor } from './device.ts'
import { machineMemoryBytes, planMemory } from './memory-plan.ts'

type ProbeJob = Extract<Job, { kind: 'probe' }>

const mostSamples = 20
/** Steps of one sample, where they are short. */
const mostTogether = 32
const sampleMs = 300
/** Training gets this much even where opening and compiling took the whole budget. */
const leastTrainingMs = 3000
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

/** Takes `repeat` steps and gives the milliseconds of one; with fewer than all of a step's micro-batches, what all would take. */
type StepTimer = (micros: number, repeat: number) => Promise<number>

function createStepTimer(trainer: Trainer, config: RunConfig): StepTimer {
  const random = createRandom(0, 'probe/tokens')
  const tokens = sequencesPerMicroBatch(config) * config.sequenceLength
  const lossWeights = new Float32Array(tokens).fill(1 / (config.sequencesPerStep * config.sequenceLength))
  const draw = (): Int32Array => Int32Array.from({ length: tokens }, () => random.nextBelow(config.model.vocab_size))
  const all = microBatchesPerStep(config)
  let step = 0
  return async (micros, repeat) => {
    const batches: MicroBatch[] = Array.from({ length: micros }, () => ({ ids: draw(), targets: draw(), lossWeights }))
    const startedAt = performance.now()
    if (micros < all) {
      await (await trainer.accumulate(batches)).read()
      const accumulatedAt = performance.now()
      await (await trainer.update(config.optimizer.minLearningRate, ++step)).read()
      return ((accumulatedAt - startedAt) * all) / micros + performance.now() - accumulatedAt
    }
    // As a run does it: numbers are read now and then, so that a card never waits for the next step.
    const pending: Pending<unknown>[] = []
    for (let i = 0; i < repeat; i++) pending.push(await trainer.accumulate(batches), await trainer.update(config.optimizer.minLearningRate, ++step))
    await Promise.all(pending.map((numbers) => numbers.read()))
    return (performance.now() - startedAt) / repeat
  }
}

const microBatchesPerStep = (config: RunConfig): number => config.sequencesPerStep / sequencesPerMicroBatch(config)

/** Times of whole steps until the time or the samples are used up; at least one, which is the warm-up's if there is no more time. */
async function timeSteps(trainer: Trainer, config: RunConfig, untilMs: number, onSample: () => void, isStopped: () => boolean): Promise<number[]> {
  const timeStep = createStepTimer(trainer, config)
  const all = microBatchesPerStep(config)
  const startedAt = performance.now()
  const estimateMs = await timeStep(1, 1)
  const microMs = performance.now() - startedAt
  // Three samples should fit; of many micro-batches only some are run, and short steps are timed together.
  const micros = Math.max(1, Math.min(all, Math.floor((untilMs - performance.now()) / 3 / microMs)))
  const repeat = Math.max(1, Math.min(mostTogether, Math.floor(sampleMs / (microMs * micros))))
  const samples: number[] = []
  while (samples.length < mostSamples && performance.now() + microMs * micros * repeat < untilMs && !isStopped()) {
    samples.push(await timeStep(micros, repeat))
    onSample()
  }
  return samples.length > 0 ? samples : [estimateMs]
}

export async function runProbeJob(job: ProbeJob, context: JobContext): Promise<'done' | 'stopped'> {
  const { config } = job
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
  const opened = await openDevice(config, kernelsOf(job, context))
  const { backend, about, bindingLimitBytes } = opened
  const peakFlopsPerSecond = await peakFor(opened, job.peakFlopsPerSecond)
  context.send({ type: 'memory', memory: memoryOf(bindingLimitBytes) })
  phase('prepare', elapsed(), 1)
  const trainer = await createTrainer(backend, trainerOptionsOf(config))
  // A card's kernels may need room of their own.
  const more = trainer.plannedBytes + planned.parts.program - planned.plannedBytes
  const memory = { ...memoryOf(bindingLimitBytes), plannedBytes: planned.plannedBytes + more, parts: { ...planned.parts, activations: planned.parts.activations + more } }
  await fillWeights(backend, listWeights(trainer.weights), config.model.initializer_range)
  phase('steps', elapsed(), 1)
  const stepMs = await timeSteps(trainer, config, Math.max(startedAt + probeBudgetMs, performance.now() + leastTrainingMs), () => phase('steps', elapsed(), 1), () => context.stopRequest() !== 'none')
  await backend.close()

  const tokensPerStep = config.sequencesPerStep * config.sequenceLength
  const spread = spreadOf(stepMs)
  const tokensPerSecond = { median: (1000 * tokensPerStep) / spread.median, min: (1000 * tokensPerStep) / spread.max, max: (1000 * tokensPerStep) / spread.min }
  const device = { ...about, flopsPerSecond: peakFlopsPerSecond }
  context.send({ type: 'probed', result: { device, memory, tokensPerSecond, stepMs: spread, samples: stepMs.length, totalSeconds: (spread.median * config.steps) / 1000 } })
  return context.stopRequest() === 'none' ? 'done' : 'stopped'
}
