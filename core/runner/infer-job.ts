/**
 * Answers generate requests of one checkpoint until stopped: prompt in, tokens out with their probability and routing. Requests are
 * served together, as many at a time as there is memory for their caches. A chat that goes on reuses a cache as far as its tokens are
 * the same (core/model/scheduler.ts).
 */
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { keyValueWidth } from '#core/model/olmoe.ts'
import { createScheduler, type Generation, type GenerationEnd, type Scheduler } from '#core/model/scheduler.ts'
import { loadTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { toErrorData } from '#core/shared/errors.ts'
import type { Token } from '#core/shared/chats.ts'
import type { Job, ToRunner } from '#core/shared/jobs.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import type { JobContext } from './context.ts'

type Request = Extract<ToRunner, { type: 'generate' }>
type Model = { scheduler: Scheduler; tokenizer: Tokenizer; eos: number }

const batchMs = 60
const mostSequences = 32
/** Share of the machine's memory that caches may take when all are full. */
const cacheShare = 0.25

/** How many sequences of the whole context have their caches in that share of memory. */
function sequencesThatFit(config: ModelConfig): number {
  const bytes = 2 * 4 * config.num_hidden_layers * keyValueWidth(config) * config.max_position_embeddings
  return Math.max(1, Math.min(mostSequences, Math.floor((cacheShare * totalmem()) / bytes)))
}

/** The prompt as far as it leaves room: what does not fit is cut from the left, by half the room, so that it is not cut again with every turn. */
function fitPrompt(ids: number[], room: number): number[] {
  return ids.length > room ? ids.slice(-Math.max(1, Math.floor(room / 2))) : ids
}

const endings: Record<GenerationEnd['end'], 'length' | 'eos' | 'stopped'> = { length: 'length', stop: 'eos', cancelled: 'stopped' }

/** Starts answering; the answer's tokens are sent in batches. */
function answer({ requestId, prompt, sampling }: Request, { scheduler, tokenizer, eos }: Model, context: JobContext): Generation {
  const maxTokens = Math.min(sampling.maxTokens, scheduler.capacity - 1)
  const ids = fitPrompt([eos, ...tokenizer.encode(prompt)], scheduler.capacity - maxTokens)
  const decoder = tokenizer.createDecoder()
  const pending: Token[] = []
  const startedAt = performance.now()
  let [sentAt, firstTokenMs] = [0, 0]
  const flush = (): void => {
    if (pending.length > 0) context.send({ type: 'tokens', requestId, tokens: pending.splice(0) })
    sentAt = performance.now()
  }
  const generation = scheduler.submit({ prompt: ids, maxTokens, sampling, stopIds: [eos], routing: true }, ({ id, logProbability, layers }) => {
    if (firstTokenMs === 0) firstTokenMs = performance.now() - startedAt
    pending.push({ id, text: decoder.push(id), probability: Math.exp(logProbability), layers })
    if (performance.now() - sentAt >= batchMs) flush()
  })
  void generation.done.then(
    ({ end, tokens }) => {
      flush()
      const seconds = (performance.now() - startedAt - firstTokenMs) / 1000
      context.send({ type: 'generated', requestId, end: endings[end], tokensPerSecond: tokens > 1 ? (tokens - 1) / Math.max(seconds, 1e-9) : 0, firstTokenMs })
    },
    (error: unknown) => context.send({ type: 'requestFailed', requestId, error: toErrorData(error) }),
  )
  return generation
}

export async function runInferJob(job: Extract<Job, { kind: 'infer' }>, context: JobContext): Promise<'stopped'> {
  // Listens before anything is loaded: requests may come right behind the start.
  const early: Request[] = []
  const running = new Map<string, Generation>()
  let model: Model | null = null
  let stopped: () => void = () => undefined
  const start = (request: Request): void => {
    const { requestId } = request
    try {
      const generation = answer(request, model!, context)
      running.set(requestId, generation)
      void generation.done.catch(() => undefined).finally(() => running.delete(requestId))
    } catch (error) {
      context.send({ type: 'requestFailed', requestId, error: toErrorData(error) })
    }
  }
  const cancel = (requestId: string): void => {
    running.get(requestId)?.cancel()
    const at = early.findIndex((request) => request.requestId === requestId)
    if (at >= 0) early.splice(at, 1)
  }
  context.onMessage((message) => {
    if (message.type === 'stop') stopped()
    else if (message.type === 'cancel') cancel(message.requestId)
    else if (message.type === 'generate' && model) start(message)
    else if (message.type === 'generate') early.push(message)
  })

  const folder = join(job.paths.library, 'checkpoints', job.checkpointId)
  // Packed weights are the CPU's: a chat reads each of them once per token.
  const backend = createCpuBackend({})
  const { config, weights } = loadPackedModel(backend, folder)
  const scheduler = createScheduler(backend, config, weights, { count: sequencesThatFit(config), capacity: config.max_position_embeddings })
  model = { scheduler, tokenizer: loadTokenizer(join(folder, 'tokenizer.json')), eos: config.eos_token_id ?? 0 }
  context.send({ type: 'ready' })
  for (const request of early) start(request)
  if (context.stopRequest() === 'none') await new Promise<void>((resolve) => (stopped = resolve))
  await scheduler.close()
  await backend.close()
  return 'stopped'
}
