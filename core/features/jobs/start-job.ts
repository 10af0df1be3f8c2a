/**
 * One runner process for one job: starts it, records it, and says how it ended. What its messages mean is the caller's;
 * here is only what all kinds share: its row, its last words on stderr, its stop and its exit.
 */
import { AppError, toErrorData, type ErrorData } from '#core/shared/errors.ts'
import type { FromRunner, Job, ToRunner } from '#core/shared/jobs.ts'
import { endJob, insertJob } from '#core/store/jobs.ts'
import type { Services } from '../services.ts'
import { processStart } from './process.ts'

/** How a job ended: `done` and `stopped` as the runner said, `failed` with its error, `died` when it said nothing. */
export type JobEnd = { outcome: 'done' | 'stopped' } | { outcome: 'failed'; error: ErrorData } | { outcome: 'died'; how: string; stderr: string[] }

export type ActiveJob = {
  readonly pid: number
  send(message: ToRunner): void
  /** Asks it to stop; without `save` it is ended for good when it has not obeyed after a moment. */
  stop(save: boolean): void
  /** Ends the runner and leaves what works on a cluster alone. */
  detach(): void
  kill(): void
  readonly ended: Promise<JobEnd>
}

const graceMs = 3000
const keptStderrLines = 20

/** Starts a runner for `job`. Throws AppError jobs.notStarted when there is no process to be had. */
export function startJob(
  { host, store }: Pick<Services, 'host' | 'store'>,
  job: Job,
  { runId, onMessage }: { runId: string | null; onMessage: (message: FromRunner) => void },
): ActiveJob {
  const runner = startRunner(host)
  const id = host.newId()
  insertJob(store, { id, kind: job.kind, runId, pid: runner.pid, processStart: processStart(runner.pid), startedAt: host.now() })
  let end: JobEnd | null = null
  const stderr: string[] = []
  let grace: NodeJS.Timeout | undefined

  const ended = new Promise<JobEnd>((resolve) => {
    runner.onExit((how) => {
      clearTimeout(grace)
      const result = end ?? { outcome: 'died', how: typeof how === 'number' ? `exit code ${how}` : how, stderr }
      if (store.open) endJob(store, id, host.now(), result.outcome)
      resolve(result)
    })
  })
  runner.onStderr((line) => {
    stderr.push(line)
    if (stderr.length > keptStderrLines) stderr.shift()
  })
  runner.onMessage((message) => {
    if (message.type === 'end') end = { outcome: message.outcome }
    else if (message.type === 'failed') end = { outcome: 'failed', error: message.error }
    else onMessage(message)
  })
  runner.send({ type: 'start', job })

  return {
    pid: runner.pid,
    send: (message) => runner.send(message),
    stop(save) {
      runner.send({ type: 'stop', save })
      if (!save) grace ??= setTimeout(() => runner.kill(), graceMs)
    },
    detach: () => runner.send({ type: 'stop', save: true, detach: true }),
    kill: () => runner.kill(),
    ended,
  }
}

function startRunner(host: Services['host']): ReturnType<Services['host']['startRunner']> {
  try {
    return host.startRunner()
  } catch (error) {
    throw new AppError('jobs.notStarted', `No process could be started: ${toErrorData(error).message}`, {
      hint: 'The machine may be out of memory or of processes. Close something and try again.',
      cause: error,
    })
  }
}

/** The error of a process that ended without a word. */
export const diedError = (end: Extract<JobEnd, { outcome: 'died' }>): ErrorData => ({
  code: 'jobs.died',
  message: `The process ended unexpectedly (${end.how})`,
  params: { how: end.how },
  hint: 'Its last words are in the log. A SIGKILL that nobody sent usually means that the machine ran out of memory.',
})
