/**
 * Answers generate requests of one checkpoint until stopped: prompt in, tokens out with their probability and routing. Requests are
 * served together, as many at a time as there is memory for their caches. A chat that goes on reuses a cache as far as its tokens are
 * the same (core/model/scheduler.ts).
 */
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { keyValueWidth } from '#core/model/olmoe.ts'
import { createScheduler, type Generation } from '#core/model/scheduler.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { readChatTemplate } from '#core/formats/chat-template.ts'
import { toErrorData } from '#core/shared/errors.ts'
import type { FromReply, Job, ToRunner } from '#core/shared/jobs.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import { startCompletion } from './complete.ts'
import type { JobContext } from './context.ts'
import type { LoadedModel } from './prompt.ts'

type Request = Extract<ToRunner, { type: 'generate' }>

const mostSequences = 32
/** Share of the machine's memory that caches may take when all are full. */
const cacheShare = 0.25

/** How many sequences of the whole context have their caches in that share of memory. */
function sequencesThatFit(config: ModelConfig): number {
  const bytes = 2 * 4 * config.num_hidden_layers * keyValueWidth(config) * config.max_position_embeddings
  return Math.max(1, Math.min(mostSequences, Math.floor((cacheShare * totalmem()) / bytes)))
}

type Tell = (news: FromReply) => void

/** Sends what is told within one step of all texts as one message. */
function createTeller(context: JobContext): Tell {
  let replies: FromReply[] = []
  const send = (): void => {
    context.send({ type: 'replies', replies })
    replies = []
  }
  return (news) => {
    if (replies.push(news) === 1) queueMicrotask(send)
  }
}

/** Starts answering; what is written is told in batches. */
function answer({ requestId, request }: Request, model: LoadedModel, tell: Tell): Generation {
  const { generation, done } = startCompletion(request, model, {
    onPrompt: (prompt) => tell({ type: 'prompt', requestId, prompt }),
    onTokens: (tokens, text) => tell({ type: 'tokens', requestId, tokens, text }),
  })
  done.then(
    (end) => tell({ type: 'generated', requestId, ...end }),
    (error: unknown) => tell({ type: 'requestFailed', requestId, error: toErrorData(error) }),
  )
  return generation
}

export async function runInferJob(job: Extract<Job, { kind: 'infer' }>, context: JobContext): Promise<'stopped'> {
  // Listens before anything is loaded: requests may come right behind the start.
  const early: Request[] = []
  const running = new Map<string, Generation>()
  let model: LoadedModel | null = null
  let stopped: () => void = () => undefined
  const tell = createTeller(context)
  const start = (request: Request): void => {
    const { requestId } = request
    try {
      const generation = answer(request, model!, tell)
      running.set(requestId, generation)
      void generation.done.catch(() => undefined).finally(() => running.delete(requestId))
    } catch (error) {
      tell({ type: 'requestFailed', requestId, error: toErrorData(error) })
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
  const scheduler = createScheduler(backend, config, weights, { count: sequencesThatFit(config), capacity: config.max_position_embeddings, now: () => performance.now() })
  model = { scheduler, tokenizer: loadTokenizer(join(folder, 'tokenizer.json')), eos: config.eos_token_id ?? 0, vocabularySize: config.vocab_size, template: readChatTemplate(folder) }
  context.send({ type: 'ready' })
  for (const request of early) start(request)
  if (context.stopRequest() === 'none') await new Promise<void>((resolve) => (stopped = resolve))
  await scheduler.close()
  await backend.close()
  return 'stopped'
}
