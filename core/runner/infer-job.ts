/**
 * Answers generate requests of one checkpoint until stopped: prompt in, tokens out with their probability and routing.
 * Requests are served one after another; a chat that goes on reuses the cache as far as its tokens are the same.
 */
import { join } from 'node:path'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createGenerator, type Generator } from '#core/model/generator.ts'
import { sampleToken } from '#core/model/sampling.ts'
import { loadTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { toErrorData } from '#core/shared/errors.ts'
import type { Token } from '#core/shared/chats.ts'
import type { Job, ToRunner } from '#core/shared/jobs.ts'
import { createRandom } from '#core/shared/random.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import type { JobContext } from './context.ts'

type Request = Extract<ToRunner, { type: 'generate' }>
const batchMs = 60

/** Feeds what the cache does not hold yet of `ids` (the last capacity/2 of them when they do not fit); gives the logits after them. */
async function feedPrompt(generator: Generator, cached: number[], ids: number[], reserve: number): Promise<Float32Array> {
  const room = Math.max(1, generator.capacity - reserve)
  const kept = ids.length > room ? ids.slice(-Math.max(1, Math.floor(room / 2))) : ids
  let common = 0
  while (common < kept.length - 1 && common < cached.length && cached[common] === kept[common]) common++
  generator.truncate(common)
  cached.length = common
  cached.push(...kept.slice(common))
  return generator.feed(kept.slice(common))
}

async function answer(request: Request, model: { generator: Generator; tokenizer: Tokenizer; eos: number; cached: number[] }, context: JobContext, isCancelled: () => boolean): Promise<void> {
  const { generator, tokenizer, eos, cached } = model
  const { requestId, sampling } = request
  const startedAt = performance.now()
  const random = createRandom(sampling.seed, 'sampling')
  const maxTokens = Math.min(sampling.maxTokens, generator.capacity - 1)
  const ids = [eos, ...tokenizer.encode(request.prompt)]
  let logits = await feedPrompt(generator, cached, ids, maxTokens)
  const decoder = tokenizer.createDecoder()
  const pending: Token[] = []
  let [made, firstTokenMs, sentAt] = [0, 0, 0]
  let end: 'length' | 'eos' | 'stopped' = 'length'
  const flush = (): void => {
    if (pending.length > 0) context.send({ type: 'tokens', requestId, tokens: pending.splice(0) })
    sentAt = performance.now()
  }
  while (made < maxTokens) {
    if (isCancelled() || context.stopRequest() !== 'none') {
      end = 'stopped'
      break
    }
    const { id, probability } = sampleToken(logits, sampling, random)
    if (made === 0) firstTokenMs = performance.now() - startedAt
    if (id === eos) {
      end = 'eos'
      break
    }
    // A token's routing is known once it has gone through the model, which the next token needs anyway.
    logits = await generator.feed([id])
    cached.push(id)
    pending.push({ id, text: decoder.push(id), probability, layers: await generator.routing() })
    made++
    if (performance.now() - sentAt >= batchMs) flush()
  }
  flush()
  const seconds = (performance.now() - startedAt - firstTokenMs) / 1000
  context.send({ type: 'generated', requestId, end, tokensPerSecond: made > 0 ? made / Math.max(seconds, 1e-9) : 0, firstTokenMs })
}

export async function runInferJob(job: Extract<Job, { kind: 'infer' }>, context: JobContext): Promise<'stopped'> {
  // Listens before anything is loaded: requests may come right behind the start.
  const cancelled = new Set<string>()
  const queue: Request[] = []
  let wake: () => void = () => undefined
  context.onMessage((message) => {
    if (message.type === 'cancel') cancelled.add(message.requestId)
    if (message.type === 'generate') queue.push(message)
    wake()
  })

  const folder = join(job.paths.library, 'checkpoints', job.checkpointId)
  // Packed weights are the CPU's: a chat reads each of them once per token.
  const backend = createCpuBackend({})
  const { config, weights } = loadPackedModel(backend, folder)
  const tokenizer = loadTokenizer(join(folder, 'tokenizer.json'))
  const generator = await createGenerator(backend, config, weights, config.max_position_embeddings)
  const model = { generator, tokenizer, eos: config.eos_token_id ?? 0, cached: [] as number[] }
  context.send({ type: 'ready' })
  while (context.stopRequest() === 'none') {
    const request = queue.shift()
    if (!request) {
      await new Promise<void>((resolve) => (wake = resolve))
      continue
    }
    try {
      await answer(request, model, context, () => cancelled.has(request.requestId))
    } catch (error) {
      model.cached.length = 0
      generator.truncate(0)
      context.send({ type: 'requestFailed', requestId: request.requestId, error: toErrorData(error) })
    }
    cancelled.delete(request.requestId)
  }
  await backend.close()
  return 'stopped'
}
