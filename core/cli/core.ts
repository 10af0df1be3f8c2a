/** A core for the time of one command: the same one that the workbench runs on, called in-process. */
import type { Core } from '#core/main.ts'
import { startCore } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import { AppError, fromErrorData } from '#core/shared/errors.ts'
import type { Run, RunEvent } from '#core/shared/runs.ts'
import type { Context } from './command.ts'

/** Runs `work` with a core of the context's library and closes it, saving what runs. */
export async function withCore<R>(context: Context, work: (core: Core) => Promise<R>): Promise<R> {
  const core = await startCore(nodeHost({ kind: 'cli', libraryPath: context.library }))
  try {
    return await work(core)
  } finally {
    await core.close()
  }
}

/** Hands Ctrl-C to `onInterrupt` once; a second one ends the process as usual. */
export function onInterrupt(listener: () => void): () => void {
  process.once('SIGINT', listener)
  process.once('SIGTERM', listener)
  return () => {
    process.off('SIGINT', listener)
    process.off('SIGTERM', listener)
  }
}

const minutes = (seconds: number): string => (seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`)

/** One line on how a run stands. */
function describe(run: Run): string {
  const parts = [`step ${run.step} of ${run.config.steps}`]
  if (run.lastLoss !== null) parts.push(`loss ${run.lastLoss.toFixed(3)}`)
  if (run.tokensPerSecond !== null) parts.push(`${Math.round(run.tokensPerSecond)} tokens/s`)
  if (run.etaSeconds !== null) parts.push(`${minutes(run.etaSeconds)} left`)
  return parts.join(' · ')
}

/** Follows a run to its end, with progress on stderr; an interrupt saves and stops it, or leaves it to its cluster. Throws what made it fail. */
export async function followRun(core: Core, runId: string, context: Context, interrupted: 'stop' | 'leave' = 'stop'): Promise<Run> {
  const release = onInterrupt(() => {
    if (interrupted === 'leave') {
      context.note(`left to the cluster; moe ray follow ${runId} takes it up again`)
      void core.close().finally(() => process.exit(0))
      return
    }
    context.note('stopping: saving a checkpoint …')
    void core.client.runs.stop({ id: runId, save: true })
  })
  try {
    const events: AsyncIterable<RunEvent> = await core.client.runs.watch({ id: runId })
    for await (const event of events) {
      if (event.type === 'log' && event.line.level !== 'info') context.note(event.line.text)
      if (event.type !== 'run') continue
      context.progress(describe(event.run))
      if (['done', 'stopped'].includes(event.run.status)) return event.run
      if (['failed', 'interrupted'].includes(event.run.status)) {
        throw event.run.error ? fromErrorData(event.run.error) : new AppError('run.interrupted', `run ${runId} ended before it was done`, { params: { runId }, hint: `Resume it with --resume ${runId}.` })
      }
    }
    throw new Error(`the events of run ${runId} ended before it did`)
  } finally {
    release()
  }
}

export type Outcome = { runId: string; checkpointId: string | null; steps: number; tokens: number; seconds: number; losses: number[]; validationLoss: { before: number | null; after: number | null } }

/** What a finished run is reported as. */
export async function reportRun(core: Core, run: Run): Promise<Outcome> {
  const series = await core.client.runs.metrics({ id: run.id, keys: ['loss', 'validation'], maxPoints: 10_000_000 })
  const valuesOf = (key: string): number[] => series.find((one) => one.key === key)?.values ?? []
  const checkpoints = await core.client.checkpoints.list({ runId: run.id })
  const newest = checkpoints.filter(({ valid }) => valid).sort((a, b) => b.step - a.step)[0]
  const validation = valuesOf('validation')
  return {
    runId: run.id,
    checkpointId: newest?.id ?? null,
    steps: run.step,
    tokens: run.tokens,
    seconds: run.seconds,
    losses: valuesOf('loss'),
    validationLoss: { before: validation[0] ?? null, after: validation.at(-1) ?? null },
  }
}
