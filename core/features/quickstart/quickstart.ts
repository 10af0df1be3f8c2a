/** The quick start as clients see it: three ordinary runs (stages.ts) as six phases with one estimate. */
import { trainingFlopsPerToken } from '#core/shared/models.ts'
import { quickstartPhases, type QuickstartState } from '#core/shared/quickstart.ts'
import type { Phase, Run } from '#core/shared/runs.ts'
import { api } from '../api.ts'
import type { RunNews, Services } from '../services.ts'
import { beginAnew, beginStage, goUntil, keepAdvancing, nextStage, readStages, type Stage, type Stages } from './stages.ts'

const idle: QuickstartState = { status: 'idle', phase: null, runId: null, checkpointId: null, stages: [], etaSeconds: null, startedAt: null, error: null }

/** Guesses for phases that have not begun, in seconds on two cores; a phase under way knows better. */
const expectedSeconds: Record<string, number> = { sample: 2, tokenizer: 15, mix: 15 }
/** What a later stage takes, as a share of pretraining (docs/performance.md). */
const expectedShare: Record<string, number> = { sft: 1, dpo: 0.2 }
/** Share of the measured peak that training is expected to reach, before its own pace is known. */
const expectedPeakFraction = 0.3
const expectedFlopsPerSecond = 3e10

export const quickstartRouter = api.quickstart.router({
  state: api.quickstart.state.handler(({ context }) => stateOf(context)),

  start: api.quickstart.start.handler(async ({ input, context }) => {
    if (stateOf(context).status !== 'running') await start(context, input?.until ?? 'dpo')
    return stateOf(context)
  }),

  stop: api.quickstart.stop.handler(({ context }) => {
    const { status, runId } = stateOf(context)
    if (status === 'running') context.supervisor.stop(runId!, true)
    return stateOf(context)
  }),

  watch: api.quickstart.watch.handler(({ context, signal }) => watchState(context, context.events.watch(signal))),
})

/** Resumes what was stopped, begins the stage that is due or had to be left, or begins anew. */
async function start(services: Services, until: 'base' | 'dpo'): Promise<void> {
  const stages = { ...readStages(services), until }
  const next = nextStage(stages)
  const last = stages.begun.at(-1)
  const before = stages.begun.at(-2)
  if (next !== null) beginStage(services, next.stage, next.from, until)
  else if (last !== undefined && ['stopped', 'interrupted'].includes(last.run.status) && (last.run.resumableStep ?? 0) > 0) {
    goUntil(services, until)
    await services.supervisor.resume(last.run.id)
  } else if (last !== undefined && last.run.status !== 'done' && before?.checkpointId != null) beginStage(services, last.stage, before.checkpointId, until)
  else beginAnew(services, until)
  // Of the commands only the one that asks for it goes on by itself (core/main.ts).
  if (services.host.kind === 'cli') void keepAdvancing(services)
}

async function* watchState(services: Services, news: AsyncGenerator<RunNews>): AsyncGenerator<QuickstartState, void> {
  let last = stateOf(services)
  yield last
  for await (const _ of news) {
    const state = stateOf(services)
    if (JSON.stringify(state) !== JSON.stringify(last)) yield state
    last = state
  }
}

function stateOf(services: Services): QuickstartState {
  const stages = readStages(services)
  const last = stages.begun.at(-1)
  if (last === undefined) return idle
  const run = services.supervisor.withLiveFields(last.run)
  const status = statusOf(run, stages)
  const phase = status === 'running' ? phaseOf(services, { ...last, run }) : null
  return {
    status,
    phase,
    runId: run.id,
    checkpointId: stages.begun.findLast(({ checkpointId }) => checkpointId !== null)?.checkpointId ?? null,
    stages: stages.begun.map(({ stage, run: { id }, checkpointId }) => ({ stage, runId: id, checkpointId })),
    etaSeconds: status === 'running' ? etaSeconds(services, stages, run, phase) : null,
    startedAt: stages.begun[0]!.run.startedAt,
    error: status === 'failed' ? (run.error ?? stages.error) : null,
  }
}

function statusOf({ status }: Run, stages: Stages): QuickstartState['status'] {
  switch (status) {
    case 'queued':
    case 'running':
    case 'stopping':
      return 'running'
    case 'interrupted':
      return 'stopped'
    case 'done':
      // Between two stages it is on its way.
      if (nextStage(stages) === null) return 'done'
      return stages.error === null ? 'running' : 'failed'
    default:
      return status
  }
}

const isPhase = (name: string): boolean => (quickstartPhases as readonly string[]).includes(name)

/** What the job says of its phase; in training, the steps. An adaptation knows how many when it has read its data. */
function phaseOf({ supervisor }: Services, { stage, run }: Stage): Phase | null {
  if (stage !== 'base') {
    return { phase: stage, done: run.step, total: run.step === 0 && run.config.steps === 1 ? null : run.config.steps, unit: 'step', etaSeconds: run.etaSeconds }
  }
  const phase = supervisor.phase(run.id)
  if (phase !== null && phase.phase !== 'train' && isPhase(phase.phase)) return phase
  if (run.mixId === null) return phase
  return { phase: 'train', done: run.step, total: run.config.steps, unit: 'step', etaSeconds: run.etaSeconds }
}

/** The rest of the phase under way, and what the later ones are expected to take. */
function etaSeconds(services: Services, { begun, until }: Stages, run: Run, phase: Phase | null): number {
  const base = begun[0]!.run
  const training = base.status === 'done' ? base.seconds : expectedTraining(services, { ...base, step: 0 })
  const expected = (name: string): number => expectedSeconds[name] ?? training * (expectedShare[name] ?? 1)
  const index = phase === null ? 0 : Math.max(0, quickstartPhases.indexOf(phase.phase as (typeof quickstartPhases)[number]))
  const last = until === 'base' ? quickstartPhases.indexOf('train') : quickstartPhases.length - 1
  const rest = quickstartPhases.slice(index + 1, last + 1).reduce((sum, name) => sum + expected(name), 0)
  const unknown = phase?.phase === 'train' ? expectedTraining(services, run) : expected(quickstartPhases[index]!)
  return (phase?.etaSeconds ?? unknown) + rest
}

function expectedTraining({ devices }: Services, { config, step }: Run): number {
  const tokens = (config.steps - step) * config.sequencesPerStep * config.sequenceLength
  const peak = devices.known()?.find(({ kind }) => kind === config.device)?.measured?.flopsPerSecond
  const flopsPerSecond = peak === undefined ? expectedFlopsPerSecond : peak * expectedPeakFraction
  return (tokens * trainingFlopsPerToken(config.model, config.sequenceLength)) / flopsPerSecond
}
