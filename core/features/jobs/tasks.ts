/**
 * Jobs that belong to something of the library that is no run (a source, a build): one at a time for each, with the phase it is in.
 * Whatever their end, whoever started one is told; a core that closes stops them, and they go on from where they were another time.
 */
import { toErrorData, type ErrorData } from '#core/shared/errors.ts'
import type { FromRunner, Job } from '#core/shared/jobs.ts'
import type { Phase } from '#core/shared/runs.ts'
import type { Services } from '../services.ts'
import { diedError, startJob, type ActiveJob } from './start-job.ts'

export type TaskEnd = { outcome: 'done' | 'stopped' } | { outcome: 'failed'; error: ErrorData }

export type Tasks = {
  /** Starts `job` for `key`, which must have none. `onEnd` is called once, also when the process dies or cannot be started. */
  start(key: string, job: Job, on: { phase(): void; message(message: FromRunner): void; end(end: TaskEnd): void }): void
  phase(key: string): Phase | null
  isActive(key: string): boolean
  /** Asks it to stop, ends it if it does not, and waits until it is gone. Nothing happens when there is none. */
  stop(key: string): Promise<void>
  close(): Promise<void>
}

type Task = { job: ActiveJob; phase: Phase | null; over: Promise<void>; isStopping: boolean }

export function createTasks(services: Pick<Services, 'host' | 'store'>): Tasks {
  const tasks = new Map<string, Task>()
  const { host } = services

  const stop = async (key: string): Promise<void> => {
    const task = tasks.get(key)
    if (task === undefined) return
    task.isStopping = true
    task.job.stop(false)
    await task.over
  }

  return {
    start(key, job, on) {
      if (tasks.has(key)) throw new Error(`${key} has a job already`)
      const guard = (work: () => void): void => {
        try {
          work()
        } catch (error) {
          host.log('error', `${key}: ${error instanceof Error ? error.stack : String(error)}`)
        }
      }
      let active: ActiveJob
      try {
        active = startJob(services, job, {
          runId: null,
          onMessage(message) {
            if (message.type === 'phase') {
              task.phase = message.phase
              guard(on.phase)
            } else guard(() => on.message(message))
          },
        })
      } catch (error) {
        on.end({ outcome: 'failed', error: toErrorData(error) })
        return
      }
      const over = active.ended.then((end) => {
        tasks.delete(key)
        const ended: TaskEnd = end.outcome !== 'died' ? end : task.isStopping ? { outcome: 'stopped' } : { outcome: 'failed', error: diedError(end) }
        if (end.outcome === 'died' && !task.isStopping) host.log('error', `${key}: ${job.kind} ended unexpectedly (${end.how}): ${end.stderr.join(' | ')}`)
        guard(() => on.end(ended))
      })
      const task: Task = { job: active, phase: null, over, isStopping: false }
      tasks.set(key, task)
    },
    phase: (key) => tasks.get(key)?.phase ?? null,
    isActive: (key) => tasks.has(key),
    stop,
    close: async () => void (await Promise.all([...tasks.keys()].map(stop))),
  }
}
