/**
 * Runners that outlived the core that started them. They save a checkpoint and exit by themselves; until then their run
 * must not be resumed and no other training begins, or two processes would share the machine and one folder.
 */
import { AppError } from '#core/shared/errors.ts'
import { endJob, jobsUnderWay, type JobRow } from '#core/store/jobs.ts'
import type { Services } from '../services.ts'
import { isProcessAlive } from './process.ts'

export type Orphans = {
  /** Whether a training of an earlier core is still going on. */
  any(): boolean
  /** Waits until no orphan of this run is left. Throws runs.runnerAlive when one stays longer than the bound. */
  waitFor(runId: string): Promise<void>
  close(): void
}

const pollMs = 200
const boundMs = 120_000

/** Looks up the jobs that have no end; `onGone` is called each time that an orphan of a run has exited. */
export function createOrphans({ host, store }: Pick<Services, 'host' | 'store'>, onGone: (runId: string) => void): Orphans {
  const end = (job: JobRow): void => endJob(store, job.id, host.now(), 'lost')
  const isAlive = (job: JobRow): boolean => isProcessAlive(job.pid, job.processStart)
  let alive: JobRow[] = []
  for (const job of jobsUnderWay(store)) {
    if (job.runId !== null && isAlive(job)) alive.push(job)
    else end(job)
  }

  const timer = setInterval(() => {
    const gone = alive.filter((job) => !isAlive(job))
    alive = alive.filter((job) => !gone.includes(job))
    if (alive.length === 0) clearInterval(timer)
    for (const job of gone) {
      end(job)
      onGone(job.runId!)
    }
  }, pollMs)
  timer.unref()
  if (alive.length === 0) clearInterval(timer)

  return {
    any: () => alive.length > 0,
    async waitFor(runId) {
      const until = performance.now() + boundMs
      for (;;) {
        const job = alive.find((orphan) => orphan.runId === runId)
        if (job === undefined || !isAlive(job)) return
        if (performance.now() > until) throw stillAlive(runId, job.pid)
        await new Promise((resolve) => setTimeout(resolve, pollMs / 2))
      }
    },
    close: () => clearInterval(timer),
  }
}

const stillAlive = (runId: string, pid: number): AppError =>
  new AppError('runs.runnerAlive', `Process ${pid} of an earlier session is still working on run ${runId}`, {
    params: { id: runId, pid },
    hint: 'It saves a checkpoint and ends by itself. If it hangs, end that process and resume again.',
  })
