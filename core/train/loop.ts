/**
 * The training loop of a run: batches in order, steps, evaluation, checkpoints, stopping. Straight and deterministic: with the
 * same state, data and weights it makes the same numbers, whether it ran through or was stopped and resumed.
 * It talks to its surroundings through `LoopPorts` and touches no file, process or database itself.
 */
import { AppError } from '#core/shared/errors.ts'
import { trainingFlopsPerToken } from '#core/shared/models.ts'
import type { RunConfig, StepRecord } from '#core/shared/runs.ts'
import { learningRateAt } from './schedule.ts'
import type { MicroBatch, Trainer } from './trainer.ts'

/** Where a run is: what a checkpoint saves beside the tensors. */
export type LoopState = { step: number; tokens: number; seconds: number; loaderPosition: number }

/** The held-out batches of one domain; their lossWeights sum to 1 over the domain. */
export type ValidationSet = { domain: string; batches: MicroBatch[] }

export type LoopPorts = {
  /** The `count` instances from `position` of the run's global order on, as micro-batches whose lossWeights sum to 1. */
  microBatches(position: number, count: number): Promise<MicroBatch[]>
  validation: ValidationSet[]
  /** Peak FLOP/s of the device, or null when it was not measured. */
  peakFlopsPerSecond: number | null
  /** Asked between steps. `save`: checkpoint and end; `discard`: end now. */
  stopRequest(): 'none' | 'save' | 'discard'
  onStep(record: StepRecord): void
  /** Writes a checkpoint of the current tensors and `state`. */
  checkpoint(state: LoopState, validationLoss: number | null): Promise<void>
  now(): number
}

/** Mean cross-entropy per token of every domain, and the mean over domains. */
async function evaluate(trainer: Trainer, sets: readonly ValidationSet[]): Promise<Record<string, number>> {
  const scalars: Record<string, number> = {}
  let sum = 0
  for (const { domain, batches } of sets) {
    let loss = 0
    for (const batch of batches) loss += await trainer.evaluate(batch)
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

/**
 * Trains from `start` to the end of `config.steps` or until asked to stop. Step `start.step` must be what the trainer's weights hold.
 * Throws AppError `train.notFinite` before a NaN or infinity reaches the weights.
 */
export async function runTraining(trainer: Trainer, config: RunConfig, start: LoopState, ports: LoopPorts): Promise<'done' | 'stopped'> {
  const state = { ...start }
  const tokensPerStep = config.sequencesPerStep * config.sequenceLength
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
  const emit = (scalars: Record<string, number>, expertCounts: number[] | null): void =>
    ports.onStep({ step: state.step, tokens: state.tokens, elapsedMs: Math.round(state.seconds * 1000), scalars, expertCounts })

  if (state.step === 0) {
    const scalars = await evaluate(trainer, ports.validation)
    validationLoss = scalars.validation ?? null
    passTime()
    emit(scalars, null)
  }
  while (state.step < config.steps) {
    const request = ports.stopRequest()
    if (request !== 'none') {
      if (request === 'save' && savedStep < state.step) await save()
      return 'stopped'
    }
    const step = state.step + 1
    const learningRate = learningRateAt(step, config.steps, config.optimizer)
    const losses = await trainer.accumulate(await ports.microBatches(state.loaderPosition, config.sequencesPerStep))
    requireFinite(step, { loss: losses.crossEntropy, loadBalance: losses.loadBalance, routerZ: losses.routerZ })
    const gradNorm = await trainer.update(learningRate, step)
    requireFinite(step, { gradNorm })
    state.step = step
    state.tokens += tokensPerStep
    state.loaderPosition += config.sequencesPerStep

    const tokensPerSecond = tokensPerStep / Math.max(passTime(), 1e-9)
    const scalars: Record<string, number> = { loss: losses.crossEntropy, loadBalance: losses.loadBalance, routerZ: losses.routerZ, learningRate, gradNorm, tokensPerSecond }
    if (ports.peakFlopsPerSecond) scalars.peakFraction = (tokensPerSecond * flopsPerToken) / ports.peakFlopsPerSecond
    const isLast = step === config.steps
    if (isLast || (config.evaluateEverySteps > 0 && step % config.evaluateEverySteps === 0)) {
      Object.assign(scalars, await evaluate(trainer, ports.validation))
      validationLoss = scalars.validation ?? null
      passTime()
    }
    emit(scalars, losses.expertCounts)
    if (isLast || (config.checkpointEverySteps > 0 && step % config.checkpointEverySteps === 0)) await save()
  }
  return 'done'
}
