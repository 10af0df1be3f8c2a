/** Worker threads of a build: as many tasks at once as there are threads, one more waits, so the texts in memory are bounded. */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { fromErrorData } from '#core/shared/errors.ts'
import { workerPath } from '../worker-path.ts'
import type { ScanTask } from './contamination.ts'
import type { ShardReply, ShardWorkerData } from './shard-worker.ts'
import type { ShardTask } from './shard.ts'

export type ShardPool = {
  /** Resolves when a thread has taken the task; `onDone` hears when it is done. Throws what an earlier task failed with. */
  give(task: ShardTask | ScanTask, onDone?: (result: Uint8Array | null) => void): Promise<void>
  /** Resolves when all are done. */
  finish(): Promise<void>
  close(): Promise<void>
}

/** The main thread reads and hashes meanwhile, so it has a core of its own where there are several. */
export const usualThreads = (): number => Math.max(1, availableParallelism() - 1)

export function createShardPool(threads: number, data: ShardWorkerData): ShardPool {
  const workers = Array.from({ length: threads }, () => new Worker(workerPath('build/shard-worker'), { workerData: data, resourceLimits: { maxYoungGenerationSizeMb: 32 } }))
  const busy = new Map<Worker, Promise<void>>()
  let failure: unknown = null
  const run = (worker: Worker, task: ShardTask | ScanTask, onDone: (result: Uint8Array | null) => void): Promise<void> =>
    new Promise<void>((resolve) => {
      const done = (error: unknown): void => {
        worker.off('message', onMessage).off('error', done)
        failure ??= error
        busy.delete(worker)
        resolve()
      }
      const onMessage = ({ error, result }: ShardReply): void => {
        if (error === null) onDone(result)
        done(error === null ? null : error.code === 'internal' ? new Error(error.message) : fromErrorData(error))
      }
      worker.on('message', onMessage).on('error', done)
      worker.postMessage(task)
    })
  const check = (): void => {
    if (failure !== null) throw failure
  }
  return {
    async give(task, onDone = () => undefined) {
      while (busy.size === workers.length) await Promise.race(busy.values())
      check()
      const free = workers.find((worker) => !busy.has(worker))!
      busy.set(free, run(free, task, onDone))
    },
    async finish() {
      await Promise.all(busy.values())
      check()
    },
    close: async () => void (await Promise.all(workers.map((worker) => worker.terminate()))),
  }
}
