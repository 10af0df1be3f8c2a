/**
 * Runners that answer prompts, one per checkpoint, kept warm between turns because loading a model takes longer than most
 * replies. Only one idle one is kept, or the two of a chat side by side: a model is most of a machine's memory. A reply that nobody reads any more is cancelled.
 */
import type { CompletionEnd, CompletionPart, CompletionRequest } from '#core/shared/completions.ts'
import { AppError, fromErrorData } from '#core/shared/errors.ts'
import type { FromRunner } from '#core/shared/jobs.ts'
import { diedError, startJob, type ActiveJob, type JobEnd } from '../jobs/start-job.ts'
import { jobPaths, type Services } from '../services.ts'

export type InferencePool = {
  /**
   * Yields what is written as it is made, in batches; returns how it ended. Aborting or leaving it stops the generation. Checkpoints that answer
   * `beside` this one stay loaded.
   */
  generate(checkpointId: string, request: CompletionRequest, signal: AbortSignal | undefined, beside?: readonly string[]): AsyncGenerator<CompletionPart, CompletionEnd>
  /** Lets go of a checkpoint, whatever is being made with it. */
  drop(checkpointId: string): Promise<void>
  close(): Promise<void>
}

type Reply = { parts: CompletionPart[]; result: CompletionEnd | AppError | null; wake: () => void }
type Warm = { job: ActiveJob; replies: Map<string, Reply>; idleTimer: NodeJS.Timeout | undefined }

export function createInferencePool(services: Pick<Services, 'host' | 'store'>, idleMs = 300_000): InferencePool {
  const { host } = services
  const pool = new Map<string, Warm>()

  function obtain(checkpointId: string, beside: readonly string[]): Warm {
    const known = pool.get(checkpointId)
    if (known !== undefined) {
      clearTimeout(known.idleTimer)
      return known
    }
    for (const [id, other] of pool) if (other.replies.size === 0 && !beside.includes(id)) release(id, other)
    const replies = new Map<string, Reply>()
    const job = startJob(services, { kind: 'infer', paths: jobPaths(host), checkpointId }, { runId: null, onMessage: (message) => deliver(replies, message) })
    const warm: Warm = { job, replies, idleTimer: undefined }
    pool.set(checkpointId, warm)
    void job.ended.then((end) => {
      clearTimeout(warm.idleTimer)
      if (pool.get(checkpointId) === warm) pool.delete(checkpointId)
      for (const reply of replies.values()) finish(reply, endedError(end))
    })
    return warm
  }

  function release(checkpointId: string, warm: Warm): void {
    if (pool.get(checkpointId) === warm) pool.delete(checkpointId)
    clearTimeout(warm.idleTimer)
    warm.job.stop(false)
  }

  async function* generate(...[checkpointId, request, signal, beside = []]: Parameters<InferencePool['generate']>): AsyncGenerator<CompletionPart, CompletionEnd> {
    const warm = obtain(checkpointId, beside)
    const requestId = host.newId()
    const reply: Reply = { parts: [], result: null, wake: () => undefined }
    warm.replies.set(requestId, reply)
    warm.job.send({ type: 'generate', requestId, request })
    const wake = (): void => reply.wake()
    signal?.addEventListener('abort', wake)
    try {
      for (;;) {
        if (reply.parts.length > 0) yield reply.parts.shift()!
        else if (reply.result instanceof AppError) throw reply.result
        else if (reply.result !== null) return reply.result
        else if (signal?.aborted === true) return stopped
        else await new Promise<void>((resolve) => (reply.wake = resolve))
      }
    } finally {
      signal?.removeEventListener('abort', wake)
      if (reply.result === null) warm.job.send({ type: 'cancel', requestId })
      warm.replies.delete(requestId)
      if (warm.replies.size === 0 && pool.get(checkpointId) === warm) {
        warm.idleTimer = setTimeout(() => release(checkpointId, warm), idleMs)
        warm.idleTimer.unref()
      }
    }
  }

  return {
    generate,
    async drop(checkpointId) {
      const warm = pool.get(checkpointId)
      if (warm === undefined) return
      release(checkpointId, warm)
      await warm.job.ended
    },
    async close() {
      const all = [...pool]
      for (const [id, warm] of all) release(id, warm)
      await Promise.all(all.map(([, warm]) => warm.job.ended))
    },
  }
}

/** The end of a text that nobody reads any more. */
export const stopped: CompletionEnd = { end: 'stopped', promptTokens: 0, cutTokens: 0, contextFull: false, tokens: 0, tokensPerSecond: 0, firstTokenMs: 0 }

function deliver(replies: Map<string, Reply>, message: FromRunner): void {
  if (message.type !== 'replies') return
  for (const news of message.replies) {
    const reply = replies.get(news.requestId)
    if (news.type === 'generated') finish(reply, news)
    else if (news.type === 'requestFailed') finish(reply, fromErrorData(news.error))
    else {
      reply?.parts.push(news.type === 'prompt' ? { prompt: news.prompt, tokens: [], text: '' } : { prompt: null, tokens: news.tokens, text: news.text })
      reply?.wake()
    }
  }
}

function finish(reply: Reply | undefined, result: CompletionEnd | AppError): void {
  if (reply === undefined || reply.result !== null) return
  reply.result = result
  reply.wake()
}

function endedError(end: JobEnd): AppError {
  if (end.outcome === 'failed') return fromErrorData(end.error)
  if (end.outcome === 'died') return fromErrorData(diedError(end))
  return new AppError('chats.interrupted', 'The model was put away while it was answering', { hint: 'Ask again: it is loaded anew.' })
}
