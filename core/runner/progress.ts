/** How a job tells its progress: by phase, at most every 100 ms, with the time that is left as the phase's own pace has it. And how it hears that it is to stop. */
import type { BuildProgress } from '#core/data/build/tokenize.ts'
import type { JobContext } from './context.ts'

const everyMs = 100

/** What ends a job that was asked to stop. */
export class Stopped extends Error {
  override readonly name = 'Stopped'
}

/** Sends phases. A phase's first and last report always go out. */
export function phaseSender(context: Pick<JobContext, 'send'>): BuildProgress {
  const startedAt = new Map<string, { at: number; done: number }>()
  let sentAt = -Infinity
  return (phase, done, total, unit) => {
    const now = performance.now()
    const first = startedAt.get(phase)
    if (first === undefined) startedAt.set(phase, { at: now, done })
    else if (now - sentAt < everyMs && done !== total) return
    sentAt = now
    const gained = first === undefined ? 0 : done - first.done
    const etaSeconds = total !== null && gained > 0 ? (((now - first!.at) / 1000) * (total - done)) / gained : null
    context.send({ type: 'phase', phase: { phase, done, total, unit, etaSeconds } })
  }
}

/** A signal that aborts, with Stopped, when the job is to stop or its core is gone. */
export function stopSignal(context: Pick<JobContext, 'onMessage' | 'stopRequest'>): AbortSignal {
  const controller = new AbortController()
  context.onMessage(({ type }) => type === 'stop' && controller.abort(new Stopped('stopped')))
  if (context.stopRequest() !== 'none') controller.abort(new Stopped('stopped'))
  return controller.signal
}

/** Runs `work` to its end or until it is stopped. */
export async function untilStopped(work: () => Promise<void>): Promise<'done' | 'stopped'> {
  try {
    await work()
    return 'done'
  } catch (error) {
    if (error instanceof Stopped) return 'stopped'
    throw error
  }
}
