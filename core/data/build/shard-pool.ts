/** Worker threads that make shards: as many at once as there are threads, one more waits, so the texts in memory are bounded. */
import { Worker } from 'node:worker_threads'
import { fromErrorData, type ErrorData } from '#core/shared/errors.ts'
import type { FilterSettings } from '#core/shared/filters.ts'
import type { TokenizerJson } from '../tokenizer-json.ts'
import { workerPath } from '../worker-path.ts'
import type { ShardTask } from './shard.ts'

export type ShardPool = {
  /** Resolves when a thread has taken the task; throws what an earlier task failed with. */
  give(task: ShardTask): Promise<void>
  /** Resolves when all are done. */
  finish(): Promise<void>
  close(): Promise<void>
}

export function createShardPool(threads: number, data: { folder: string; tokenizerJson: TokenizerJson; filters: FilterSettings }): ShardPool {
  const workers = Array.from({ length: threads }, () => new Worker(workerPath('build/shard-worker'), { workerData: data }))
  const busy = new Map<Worker, Promise<void>>()
  let failure: unknown = null
  const run = (worker: Worker, task: ShardTask): Promise<void> =>
    new Promise<void>((resolve) => {
      const done = (error: unknown): void => {
        worker.off('message', onMessage).off('error', done)
        failure ??= error
        busy.delete(worker)
        resolve()
      }
      const onMessage = ({ error }: { error: ErrorData | null }): void => done(error === null ? null : error.code === 'internal' ? new Error(error.message) : fromErrorData(error))
      worker.on('message', onMessage).on('error', done)
      worker.postMessage(task)
    })
  const check = (): void => {
    if (failure !== null) throw failure
  }
  return {
    async give(task) {
      while (busy.size === workers.length) await Promise.race(busy.values())
      check()
      const free = workers.find((worker) => !busy.has(worker))!
      busy.set(free, run(free, task))
    },
    async finish() {
      await Promise.all(busy.values())
      check()
    },
    close: async () => void (await Promise.all(workers.map((worker) => worker.terminate()))),
  }
}
