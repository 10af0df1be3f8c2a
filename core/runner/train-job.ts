/** A training run in its process: opens its data, restores or initialises, runs the loop, says what happens. */
import { join } from 'node:path'
import type { Backend } from '#core/backend/backend.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import type { TrainingState } from '#core/shared/checkpoints.ts'
import type { Job } from '#core/shared/jobs.ts'
import { createRandom } from '#core/shared/random.ts'
import { applyChange, type RunChange } from '#core/shared/run-control.ts'
import type { RunConfig, StepRecord } from '#core/shared/runs.ts'
import { resumeCheckpoint, writeCheckpoint } from '#core/train/checkpoint.ts'
import { trainerOptionsOf } from '#core/train/options.ts'
import { runTraining, type LoopState } from '#core/train/loop.ts'
import { createTrainer, type Trainer } from '#core/train/trainer.ts'
import { startFromCheckpoint } from '#core/train/start.ts'
import { drawWeights } from '#core/train/weights.ts'
import type { JobContext } from './context.ts'
import { kernelsOf, openDevice, peakFor } from './device.ts'
import { programBytes } from './memory-plan.ts'
import { sampleTexts } from './samples.ts'
import { openTrainingSource } from './training-source.ts'

type TrainJob = Extract<Job, { kind: 'train' }>

/** Puts the run's weights (and moments) in place and returns where it stands. */
async function prepareState(job: TrainJob, backend: Backend, trainer: Trainer, context: JobContext): Promise<LoopState> {
  if (job.resumeFrom !== null) {
    const state = await resumeCheckpoint(backend, trainer, join(job.paths.library, 'checkpoints', job.resumeFrom))
    context.log('info', `resumed from checkpoint ${job.resumeFrom} at step ${state.step}`)
    return { step: state.step, tokens: state.tokens, seconds: state.seconds, loaderPosition: state.loaderPosition, earlierSteps: state.earlierSteps }
  }
  const from = job.config.startFrom
  if (from !== null) {
    const start = await startFromCheckpoint(backend, trainer, job.config, from, join(job.paths.library, 'checkpoints', from.checkpointId))
    context.log('info', `${job.config.stage} from checkpoint ${from.checkpointId}${from.optimizer ? ', with its optimizer state' : ''}, at step ${start.step}`)
    return start
  }
  await drawWeights(backend, job.config.model, trainer.weights, job.config.seed)
  return { step: 0, tokens: 0, seconds: 0, loaderPosition: 0, earlierSteps: 0 }
}

/** Continues the recipe's prompts. A model that cannot generate token by token is told of, once per checkpoint. */
async function tellSamples(backend: Backend, config: RunConfig, trainer: Trainer, step: number, tokenizerPath: string, context: JobContext): Promise<void> {
  const { prompts } = config.control
  if (prompts.length === 0) return
  if (config.model.routing === 'expert_choice') return context.log('warning', 'No samples: with expert choice a token cannot be generated without those after it')
  context.send({ type: 'phase', phase: { phase: 'samples', done: 0, total: null, unit: '', etaSeconds: null } })
  const texts = await sampleTexts(backend, config, trainer.weights, loadTokenizer(tokenizerPath))
  texts.forEach((text, index) => context.send({ type: 'sample', index, sample: { step, prompt: prompts[index]!, text } }))
}

export async function runTrainJob(job: TrainJob, context: JobContext): Promise<'done' | 'stopped'> {
  let { config } = job
  const changes: RunChange[] = []
  context.onMessage((message) => void (message.type === 'change' && changes.push(message.change)))
  const source = await openTrainingSource(job, context)
  if (source.config !== config) {
    config = source.config
    context.send({ type: 'recipe', config })
  }
  const device = await openDevice(config, kernelsOf(job, context))
  const { backend, about } = device
  const peakFlopsPerSecond = await peakFor(device, job.peakFlopsPerSecond)
  context.send({ type: 'device', device: { ...about, flopsPerSecond: peakFlopsPerSecond } })
  // A card compiles its kernels now.
  context.send({ type: 'phase', phase: { phase: 'prepare', done: 0, total: null, unit: '', etaSeconds: null } })
  const trainer = await createTrainer(backend, trainerOptionsOf(config))
  context.log('info', `${backend.description}; ${((trainer.plannedBytes + programBytes(config.device)) / 2 ** 20).toFixed(0)} MiB planned; ${source.summary}`)
  const feed = await source.feed(backend, trainer)
  const start = await prepareState(job, backend, trainer, context)

  let parentId = job.resumeFrom ?? config.startFrom?.checkpointId ?? null
  let records: StepRecord[] = []
  const checkpoint = async (state: LoopState, validationLoss: number | null): Promise<void> => {
    context.send({ type: 'phase', phase: { phase: 'checkpoint', done: 0, total: null, unit: '', etaSeconds: null } })
    const now = Date.now()
    const id = `${job.runId}-${state.step}-${now.toString(36)}`
    const saved: TrainingState = { ...state, rng: createRandom(config.seed, 'run').state(), config, records }
    const identity = { id, runId: job.runId, createdAt: now, codeVersion: job.codeVersion, ...source.identity, parentId, validationLoss }
    const written = await writeCheckpoint(backend, trainer, saved, identity, join(job.paths.library, 'checkpoints'), source)
    records = []
    parentId = id
    context.send({ type: 'checkpoint', manifest: written })
    await tellSamples(backend, config, trainer, state.step, source.tokenizerPath, context)
  }
  const outcome = await runTraining(trainer, config, start, {
    ...feed,
    peakFlopsPerSecond,
    // The CPU has nothing to wait for; a GPU is asked twice a second.
    reportEveryMs: backend.name === 'webgpu' ? 500 : 0,
    changedRecipe(step) {
      if (changes.length === 0) return null
      for (const change of changes.splice(0)) {
        config = applyChange(config, change, step)
        context.send({ type: 'changed', change, step, config })
      }
      return config
    },
    stopRequest: context.stopRequest,
    onStep(record) {
      records.push(record)
      context.send({ type: 'steps', steps: [record] })
    },
    checkpoint,
    now: () => performance.now(),
  })
  source.close()
  await backend.close()
  return outcome
}
