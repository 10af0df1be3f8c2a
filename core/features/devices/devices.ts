/** Calls on devices: listing, measuring, and the probe that asks for one recipe whether it fits and how fast it is. Never beside a training. */
import { probeBudgetMs, type ProbeEvent } from '#core/shared/devices.ts'
import { AppError, toErrorData } from '#core/shared/errors.ts'
import type { FromRunner } from '#core/shared/jobs.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { readKernelChoices } from '#core/store/devices.ts'
import { api } from '../api.ts'
import { jobPaths, type Services } from '../services.ts'
import { startShortJob, type ShortJob } from './short-job.ts'

/** What may come on top of the budget: one micro-batch is not interrupted. */
const probeLimitMs = probeBudgetMs + 40_000

export const devicesRouter = api.devices.router({
  list: api.devices.list.handler(({ input, context }) => context.devices.list(input)),

  measure: api.devices.measure.handler(({ input, context }) => {
    requireQuiet(context)
    return context.devices.measure(input.id)
  }),

  probe: api.devices.probe.handler(({ input, context, signal }) => {
    requireQuiet(context)
    return probe(context, input.config, signal)
  }),
})

function requireQuiet({ supervisor, orphans }: Services): void {
  if (!supervisor.isBusy() && !orphans.any()) return
  throw new AppError('devices.busy', 'Something is training: both would be slowed down and the numbers wrong', { hint: 'Wait until it is over, or stop it.' })
}

/** Ends with `result` or `failed`. Leaving it ends the process. */
async function* probe(services: Services, config: RunConfig, signal: AbortSignal | undefined): AsyncGenerator<ProbeEvent, void> {
  const waiting: ProbeEvent[] = []
  let isOver = false
  let wake = (): void => undefined
  let job: ShortJob | null = null
  const tell = (event: ProbeEvent): void => {
    waiting.push(event)
    wake()
  }
  const onAbort = (): void => wake()
  signal?.addEventListener('abort', onAbort)

  async function work(): Promise<void> {
    const peakFlopsPerSecond = await services.devices.peak(config)
    await services.devices.probe(() => {
      requireQuiet(services)
      if (signal?.aborted === true) throw left()
      const kernels = readKernelChoices(services.store)
      job = startShortJob(services, { kind: 'probe', paths: jobPaths(services.host), config, peakFlopsPerSecond, kernels }, probeLimitMs, (message) => {
        const event = eventOf(message)
        if (event !== null) tell(event)
      })
      return job
    })
  }
  tell({ type: 'phase', phase: { phase: 'measure', done: 0, total: null, unit: '', etaSeconds: null } })
  work()
    .catch((error: unknown) => tell({ type: 'failed', error: toErrorData(error) }))
    .finally(() => {
      isOver = true
      wake()
    })
  try {
    while (signal?.aborted !== true) {
      const event = waiting.shift()
      if (event !== undefined) yield event
      else if (isOver) return
      else await new Promise<void>((resolve) => (wake = resolve))
    }
  } finally {
    signal?.removeEventListener('abort', onAbort)
    ;(job as ShortJob | null)?.interrupt(left())
  }
}

function eventOf(message: FromRunner): ProbeEvent | null {
  if (message.type === 'phase') return { type: 'phase', phase: message.phase }
  if (message.type === 'memory') return { type: 'memory', memory: message.memory }
  return message.type === 'probed' ? { type: 'result', result: message.result } : null
}

const left = (): AppError => new AppError('devices.interrupted', 'Nobody waits for the probe any more', { hint: 'Ask again.' })
