/**
 * A job about devices: it has a time limit, may be interrupted, and what goes wrong with it is thrown. A process that ends
 * without a word is taken for a driver that crashed; its last words go to the host's log.
 */
import { AppError, fromErrorData } from '#core/shared/errors.ts'
import type { FromRunner, Job } from '#core/shared/jobs.ts'
import { rememberKernelChoice } from '#core/store/devices.ts'
import { startJob } from '../jobs/start-job.ts'
import type { Services } from '../services.ts'

export type ShortJob = {
  /** Ends it; whoever waits for it is told `why`. */
  interrupt(why: AppError): void
  /** Resolves when it did what it was to do; else throws the runner's error, devices.timeout, devices.crashed, or why it was interrupted. */
  readonly done: Promise<void>
}

export function startShortJob(services: Pick<Services, 'host' | 'store'>, job: Job, limitMs: number, onMessage: (message: FromRunner) => void): ShortJob {
  const active = startJob(services, job, {
    runId: null,
    onMessage(message) {
      if (message.type === 'kernels') rememberKernelChoice(services.store, message.key, message.choice)
      else onMessage(message)
    },
  })
  let reason: AppError | null = null
  const interrupt = (why: AppError): void => {
    reason ??= why
    active.kill()
  }
  const limit = setTimeout(() => interrupt(timeout(limitMs)), limitMs)

  async function finish(): Promise<void> {
    const end = await active.ended
    clearTimeout(limit)
    if (end.outcome === 'failed') {
      if (end.error.code === 'internal') services.host.log('error', `a ${job.kind} job failed: ${end.error.message}`)
      throw fromErrorData(end.error)
    }
    if (end.outcome !== 'died') return
    if (reason !== null) throw reason
    services.host.log('warning', `a ${job.kind} job ended unexpectedly (${end.how}): ${end.stderr.join(' | ')}`)
    throw crashed(end.how)
  }
  return { interrupt, done: finish() }
}

const timeout = (limitMs: number): AppError =>
  new AppError('devices.timeout', `There was no answer for ${limitMs / 1000} s`, {
    params: { seconds: limitMs / 1000 },
    hint: 'Choose a smaller model or fewer sequences per micro-batch; if even listing takes this long, the graphics driver hangs.',
  })

const crashed = (how: string): AppError =>
  new AppError('devices.crashed', `The process that used the device ended unexpectedly (${how})`, {
    params: { how },
    hint: 'The graphics driver crashed, or the machine ran out of memory. Update the driver, choose another device, or a smaller model.',
  })
