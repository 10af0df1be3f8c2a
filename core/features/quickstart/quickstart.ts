/**
 * The quick start: one ordinary run with a recipe of ours, seen as four phases with one estimate. All it remembers is
 * which run that is, so its state after a restart of the core is simply what became of the run.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import type { Host } from '#core/shared/host.ts'
import { trainingFlopsPerToken } from '#core/shared/models.ts'
import { quickstartPhases, type QuickstartState } from '#core/shared/quickstart.ts'
import { runConfigSchema, type Phase, type Run, type RunConfig } from '#core/shared/runs.ts'
import { listCheckpoints } from '#core/store/checkpoints.ts'
import { findRun } from '#core/store/runs.ts'
import { readSetting, writeSetting } from '#core/store/settings.ts'
import { api } from '../api.ts'
import type { RunNews, Services } from '../services.ts'

const runKey = 'quickstart.runId'
const idle: QuickstartState = { status: 'idle', phase: null, runId: null, checkpointId: null, etaSeconds: null, startedAt: null, error: null }

/** Guesses for phases that have not begun, in seconds on two cores; a phase under way knows better. */
const expectedSeconds: Record<string, number> = { sample: 2, tokenizer: 15, mix: 15 }
/** Share of the measured peak that training is expected to reach, before its own pace is known. */
const expectedPeakFraction = 0.3
const expectedFlopsPerSecond = 3e10

export const quickstartRouter = api.quickstart.router({
  state: api.quickstart.state.handler(({ context }) => stateOf(context)),

  start: api.quickstart.start.handler(async ({ context }) => {
    const { status, runId } = stateOf(context)
    if (status === 'running') return stateOf(context)
    const run = runId === null ? null : findRun(context.store, runId)
    if (run !== null && status === 'stopped' && (run.resumableStep ?? 0) > 0) await context.supervisor.resume(run.id)
    else begin(context)
    return stateOf(context)
  }),

  stop: api.quickstart.stop.handler(({ context }) => {
    const { status, runId } = stateOf(context)
    if (status === 'running') context.supervisor.stop(runId!, true)
    return stateOf(context)
  }),

  watch: api.quickstart.watch.handler(({ context, signal }) => watchState(context, context.events.watch(signal))),
})

async function* watchState(services: Services, news: AsyncGenerator<RunNews>): AsyncGenerator<QuickstartState, void> {
  let last = stateOf(services)
  yield last
  for await (const { runId } of news) {
    if (runId !== readSetting(services.store, runKey)) continue
    const state = stateOf(services)
    if (JSON.stringify(state) !== JSON.stringify(last)) yield state
    last = state
  }
}

function begin({ host, store, supervisor }: Services): void {
  const run = supervisor.create(readRecipe(host))
  writeSetting(store, runKey, run.id)
}

function readRecipe({ resourcesPath }: Host): RunConfig {
  const path = join(resourcesPath, 'presets', 'quickstart.json')
  const bad = (found: string): AppError =>
    new AppError('quickstart.badRecipe', `${path}: ${found}`, { params: { path, found }, hint: 'Install the workbench again: this file came with it.' })
  let json: unknown
  try {
    json = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw bad(error instanceof Error ? error.message : String(error))
  }
  const recipe = runConfigSchema.safeParse(json)
  if (recipe.success) return recipe.data
  const issue = recipe.error.issues[0]!
  throw bad(`${issue.path.join('.')}: ${issue.message}`)
}

function stateOf(services: Services): QuickstartState {
  const runId = readSetting(services.store, runKey)
  const found = typeof runId === 'string' ? findRun(services.store, runId) : null
  if (found === null) return idle
  const run = services.supervisor.withLiveFields(found)
  const status = statusOf(run)
  const phase = status === 'running' ? phaseOf(services, run) : null
  return {
    status,
    phase,
    runId: run.id,
    checkpointId: listCheckpoints(services.store, run.id).find((checkpoint) => checkpoint.valid)?.id ?? null,
    etaSeconds: status === 'running' ? etaSeconds(services, run, phase) : null,
    startedAt: run.startedAt,
    error: status === 'failed' ? run.error : null,
  }
}

function statusOf({ status }: Run): QuickstartState['status'] {
  switch (status) {
    case 'queued':
    case 'running':
    case 'stopping':
      return 'running'
    case 'interrupted':
      return 'stopped'
    default:
      return status
  }
}

const isPhase = (name: string): boolean => (quickstartPhases as readonly string[]).includes(name)

/** What the job says of its phase; in training, the steps. */
function phaseOf({ supervisor }: Services, run: Run): Phase | null {
  const phase = supervisor.phase(run.id)
  if (phase !== null && phase.phase !== 'train' && isPhase(phase.phase)) return phase
  if (run.mixId === null) return phase
  return { phase: 'train', done: run.step, total: run.config.steps, unit: 'step', etaSeconds: run.etaSeconds }
}

/** The rest of the phase under way, and what the later ones are expected to take. */
function etaSeconds(services: Services, run: Run, phase: Phase | null): number {
  const training = run.etaSeconds ?? expectedTraining(services, run)
  if (phase?.phase === 'train') return training
  const index = phase === null ? 0 : quickstartPhases.indexOf(phase.phase as (typeof quickstartPhases)[number])
  const later = quickstartPhases.slice(Math.max(0, index) + (phase === null ? 0 : 1), -1)
  const own = phase === null ? 0 : (phase.etaSeconds ?? expectedSeconds[phase.phase] ?? 0)
  return own + later.reduce((sum, name) => sum + expectedSeconds[name]!, 0) + training
}

function expectedTraining({ devices }: Services, { config, step }: Run): number {
  const tokens = (config.steps - step) * config.sequencesPerStep * config.sequenceLength
  const peak = devices.known()?.find(({ kind }) => kind === config.device)?.measured?.flopsPerSecond
  const flopsPerSecond = peak === undefined ? expectedFlopsPerSecond : peak * expectedPeakFraction
  return (tokens * trainingFlopsPerToken(config.model, config.sequenceLength)) / flopsPerSecond
}
