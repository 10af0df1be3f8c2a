/**
 * The training loop of a run: batches in order, steps, evaluation, checkpoints, stopping. Straight and deterministic: with the
 * same state, data and weights it makes the same numbers, whether it ran through or was stopped and resumed.
 * It talks to its surroundings through `LoopPorts` and touches no file, process or database itself.
 */
import type { Pending } from '#core/backend/backend.ts'
import { AppError } from '#core/shared/errors.ts'
import { moeLayers, trainingFlopsPerToken } from '#core/shared/models.ts'
import { afterSkips, learningRateFactor } from '#core/shared/run-control.ts'
import type { RunConfig, StepRecord } from '#core/shared/runs.ts'
import { learningRateAt } from '#core/shared/schedule.ts'
import { trainedSequences } from './options.ts'
import type { MicroBatch, StepLosses, Trainer } from './trainer.ts'

/** Where a run is: what a checkpoint saves beside the tensors. `earlierSteps`: those that its moments saw before its own step 1. */
export type LoopState = { step: number; tokens: number; seconds: number; loaderPosition: number; earlierSteps: number }

/** The held-out batches of one domain; their lossWeights sum to 1 over the domain. */
export type ValidationSet = { domain: string; batches: MicroBatch[] }

/** What a step trains on. `scalars` are told with it; a `loss` among them is told instead of the weighted sum of the token losses. */
export type StepBatch = { micros: MicroBatch[]; scalars?: Record<string, number> }

export type LoopPorts = {
  /** The `count` instances from `position` of the run's global order on, as micro-batches. */
  stepBatch(position: number, count: number): Promise<StepBatch>
  /** Held-out scalars of the weights as they are; `validation` is the one that a checkpoint is known by. */
  evaluate(): Promise<Record<string, number>>
  /**
   * Milliseconds of steps that may be under way before their numbers are read, 0 to read each: a GPU must not wait for every step.
   * Before an evaluation, a checkpoint or an end, everything is read.
   */
  reportEveryMs: number
  /** Peak FLOP/s of the device, or null when it was not measured. */
  peakFlopsPerSecond: number | null
  /** Asked between steps: the recipe from `step` on, when it was changed; null otherwise. */
  changedRecipe?(step: number): RunConfig | null
  /** Asked between steps. `save`: checkpoint and end; `discard`: end now. */
  stopRequest(): 'none' | 'save' | 'discard'
  onStep(record: StepRecord): void
  /** Writes a checkpoint of the current tensors and `state`. */
  checkpoint(state: LoopState, validationLoss: number | null): Promise<void>
  now(): number
}

/** Mean cross-entropy per token of every domain, and the mean over domains. */
export async function evaluateDomains(trainer: Trainer, sets: readonly ValidationSet[]): Promise<Record<string, number>> {
  const scalars: Record<string, number> = {}
  let sum = 0
  const readings: { domain: string; losses: Pending<number>[] }[] = []
  for (const { domain, batches } of sets) {
    const losses: Pending<number>[] = []
    for (const batch of batches) losses.push(await trainer.evaluate(batch))
    readings.push({ domain, losses })
  }
  for (const { domain, losses } of readings) {
    let loss = 0
    for (const reading of losses) loss += await reading.read()
    scalars[`validation/${domain}`] = loss
    sum += loss
  }
  if (sets.length > 0) scalars.validation = sum / sets.length
  return scalars
}

function requireFinite(step: number, values: Record<string, number>): void {
  const bad = Object.entries(values).find(([, value]) => !Number.isFinite(value))
  if (!bad) return
  const params = { step, field: bad[0], found: String(bad[1]) }
  throw new AppError('train.notFinite', `step ${step}: ${bad[0]} is ${bad[1]}`, {
    params,
    hint: 'Resume from the last checkpoint with a lower learning rate, or start again with a longer warm-up.',
  })
}

/** A step that was handed to the device and whose numbers have not been read. */
type StepUnderWay = { step: number; tokens: number; learningRate: number; losses: Pending<StepLosses>; gradNorm: Pending<number>; own: Record<string, number> }

/** Steps between two readings: as many as fit the time, at most this. */
const mostStepsUnderWay = 64

/**
 * Trains from `start` to the end of `config.steps` or until asked to stop. Step `start.step` must be what the trainer's weights hold.
 * Throws AppError `train.notFinite` when a loss or the gradient is: such a step leaves the weights as they were, and none is saved after it.
 */
export async function runTraining(trainer: Trainer, recipe: RunConfig, start: LoopState, ports: LoopPorts): Promise<'done' | 'stopped'> {
  let config = recipe
  const state = { ...start }
  const tokensPerStep = trainedSequences(config) * config.sequenceLength
  const flopsPerToken = trainingFlopsPerToken(config.model, config.sequenceLength)
  let validationLoss: number | null = null
  let savedStep = start.step
  let mark = ports.now()
  const passTime = (): number => {
    const elapsed = (ports.now() - mark) / 1000
    mark += elapsed * 1000
    state.seconds += elapsed
    return elapsed
  }
  const save = async (): Promise<void> => {
    passTime()
    await ports.checkpoint(state, validationLoss)
    savedStep = state.step
    mark = ports.now()
  }
  const underWay: StepUnderWay[] = []
  let stepsPerReport = 1
  /** Reads, checks and tells the steps under way; `validates`: with the held-out losses after the last of them. */
  const report = async (validates: boolean): Promise<void> => {
    if (underWay.length === 0) return
    const before = state.seconds
    const readings = await Promise.all(underWay.map(async ({ losses, gradNorm, ...rest }) => ({ ...rest, losses: await losses.read(), gradNorm: await gradNorm.read() })))
    const secondsPerStep = passTime() / readings.length
    stepsPerReport = Math.max(1, Math.min(mostStepsUnderWay, Math.floor(ports.reportEveryMs / 1000 / Math.max(secondsPerStep, 1e-6))))
    underWay.length = 0
    for (const [i, { step, tokens, learningRate, losses, gradNorm, own }] of readings.entries()) {
      requireFinite(step, { loss: losses.crossEntropy, loadBalance: losses.loadBalance, routerZ: losses.routerZ, gradNorm })
      const tokensPerSecond = tokensPerStep / Math.max(secondsPerStep, 1e-9)
      const router: Record<string, number> = moeLayers(config.model).length > 0 ? { loadBalance: losses.loadBalance, routerZ: losses.routerZ } : {}
      const scalars: Record<string, number> = { loss: losses.crossEntropy, ...own, ...router, learningRate, gradNorm, tokensPerSecond }
      if (ports.peakFlopsPerSecond) scalars.peakFraction = (tokensPerSecond * flopsPerToken) / ports.peakFlopsPerSecond
      let seconds = before + (i + 1) * secondsPerStep
      if (validates && i === readings.length - 1) {
        Object.assign(scalars, await ports.evaluate())
        validationLoss = scalars.validation ?? null
        passTime()
        seconds = state.seconds
      }
      ports.onStep({ step, tokens, elapsedMs: Math.round(seconds * 1000), scalars, expertCounts: losses.expertCounts.length > 0 ? losses.expertCounts : null })
    }
  }

  if (state.step === 0) {
    const scalars = await ports.evaluate()
    validationLoss = scalars.validation ?? null
    passTime()
    ports.onStep({ step: 0, tokens: state.tokens, elapsedMs: Math.round(state.seconds * 1000), scalars, expertCounts: null })
  }
  while (state.step < config.steps) {
    const request = ports.stopRequest()
    if (request !== 'none') {
      await report(false)
      if (request === 'save' && savedStep < state.step) await save()
      return 'stopped'
    }
    const step = state.step + 1
    config = ports.changedRecipe?.(step) ?? config
    const learningRate = learningRateAt(step, config.steps, config.optimizer) * learningRateFactor(config.control, step)
    const position = afterSkips(config.control, state.loaderPosition)
    const { micros, scalars: own = {} } = await ports.stepBatch(position, config.sequencesPerStep)
    const losses = await trainer.accumulate(micros)
    const gradNorm = await trainer.update(learningRate, state.earlierSteps + step)
    state.step = step
    state.tokens += tokensPerStep
    state.loaderPosition = position + config.sequencesPerStep
    underWay.push({ step, tokens: state.tokens, learningRate, losses, gradNorm, own })

    const isLast = step === config.steps
    const isDue = (everySteps: number): boolean => isLast || (everySteps > 0 && step % everySteps === 0)
    const [validates, saves] = [isDue(config.evaluateEverySteps), isDue(config.checkpointEverySteps)]
    if (validates || saves || underWay.length >= stepsPerReport) await report(validates)
    if (saves) await save()
  }
  return 'done'
}
