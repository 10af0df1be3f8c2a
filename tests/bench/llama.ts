/**
 * llama.cpp as a peer, through node-llama-cpp: no dependency of the project. MOE_LLAMA names a folder it is installed in; without it the
 * peer is absent and said to be.
 *
 * It gets a process of its own with one libuv thread: every thread that calls llama.cpp makes a team of OpenMP threads there, and the
 * teams of four callers that spin for each other's cores made it six times slower than it is. Its threads may spin as long as they like
 * (that is its fastest), so the process is halted while others are measured.
 */
import { fork } from 'node:child_process'
import { join } from 'node:path'
import type { LlamaAnswer, LlamaRequest } from './llama-process.ts'

export type Peer = {
  readonly name: string
  /** Seconds to take in `ids` with an empty cache. */
  prefill(ids: number[]): Promise<number>
  /** Seconds per token, the mean of `count` greedy tokens after one token. */
  decode(count: number): Promise<number>
  close(): Promise<void>
}

/** Opens a GGUF file; null when there is no llama.cpp. */
export async function openLlama(path: string, threads: number): Promise<Peer | null> {
  const folder = process.env.MOE_LLAMA
  if (folder === undefined) return null
  const installed = join(folder, 'node_modules/node-llama-cpp')
  const child = fork(join(import.meta.dirname, 'llama-process.ts'), [installed, path, String(threads)], { env: { ...process.env, UV_THREADPOOL_SIZE: '1', OMP_WAIT_POLICY: 'active' } })
  const ended = new Promise<never>((_, reject) => child.once('exit', (code) => reject(new Error(`llama.cpp's process ended with ${code}`))))
  ended.catch(() => undefined)
  const next = (): Promise<LlamaAnswer> => Promise.race([new Promise<LlamaAnswer>((resolve) => child.once('message', (message) => resolve(message as LlamaAnswer))), ended])
  const opened = await next()
  child.kill('SIGSTOP')
  const ask = async (request: LlamaRequest): Promise<number> => {
    child.kill('SIGCONT')
    const answer = next()
    child.send(request)
    const got = await answer
    child.kill('SIGSTOP')
    return 'seconds' in got ? got.seconds : NaN
  }
  return {
    name: `llama.cpp of node-llama-cpp ${'version' in opened ? opened.version : '?'}`,
    prefill: (ids) => ask({ prefill: ids }),
    decode: (count) => ask({ decode: count }),
    async close() {
      child.kill('SIGKILL')
      await ended.catch(() => undefined)
    },
  }
}
