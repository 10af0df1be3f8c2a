/**
 * One completion on a loaded model: the prompt as ids, the tokens as text, stop texts, and scores where they are asked for. Decides
 * nothing about who is served when (core/model/scheduler.ts) and nothing about protocols (core/serve/api).
 */
import { encodePrompt, type EncodedPrompt, type LoadedModel } from './prompt.ts'
import type { Generation, GenerationEnd, PromptToken } from '#core/model/scheduler.ts'
import type { CompletionEnd, CompletionRequest, ReadPrompt, ScoredToken } from '#core/shared/completions.ts'
import { AppError } from '#core/shared/errors.ts'
import { createStopTexts } from './stop-texts.ts'

/** Called as the text grows; `onTokens` with the first token and then when the clock passes a multiple of 60 ms, at the same time for all texts. */
export type Listener = { onPrompt(prompt: ReadPrompt): void; onTokens(tokens: ScoredToken[], text: string): void }

const batchMs = 60
const endings: Record<GenerationEnd['end'], CompletionEnd['end']> = { length: 'length', stop: 'eos', cancelled: 'stopped' }

/** How a token is written by itself: bytes that are no whole characters as OpenAI writes them. */
function writtenBy({ tokenizer }: LoadedModel): (id: number) => string {
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  return (id) => {
    const bytes = tokenizer.bytesOf(id) ?? new Uint8Array()
    try {
      return utf8.decode(bytes)
    } catch {
      return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`
    }
  }
}

type Fitted = EncodedPrompt & { maxTokens: number }

/** The prompt, cut from the left where it leaves no room. The text gets half the context where it needs that much, and what a short prompt leaves. */
function cutToFit(request: CompletionRequest, model: LoadedModel): Fitted {
  const { capacity } = model.scheduler
  const whole = encodePrompt(request.prompt, model)
  const maxTokens = Math.min(request.maxTokens ?? capacity, Math.max(Math.floor(capacity / 2), capacity - whole.ids.length))
  const room = capacity - maxTokens
  if (whole.ids.length <= room) return { ...whole, maxTokens }
  const byTurns = encodePrompt(request.prompt, model, room)
  // By half the room, so that it is not cut again with every turn.
  const ids = byTurns.ids.length > room ? byTurns.ids.slice(-Math.max(1, Math.floor(room / 2))) : byTurns.ids
  return { ...byTurns, ids, maxTokens, cut: whole.ids.length - ids.length }
}

/** Tokens for the prompt and the text, as far as they fit. Throws AppError `tokens.tooLong`. */
function fit(request: CompletionRequest, model: LoadedModel): Fitted {
  if (request.cutToFit) return cutToFit(request, model)
  const { capacity } = model.scheduler
  const encoded = encodePrompt(request.prompt, model)
  const { maxTokens, echo } = request
  const { ids } = encoded
  const least = echo === 'scores' && maxTokens === 0 ? 0 : 1
  const tokens = Math.max(least, maxTokens ?? capacity - ids.length)
  if (ids.length + tokens <= capacity) return { ...encoded, maxTokens: tokens }
  const params = { found: ids.length + tokens, expected: capacity }
  throw new AppError('tokens.tooLong', `the prompt (${ids.length} tokens) and the text (${tokens}) exceed the model's context of ${capacity}`, { params, hint: 'Shorten the prompt or ask for fewer tokens.' })
}

/** Starts it; `done` tells how it ended. Throws AppError for a prompt the model cannot be given. */
export function startCompletion(request: CompletionRequest, model: LoadedModel, on: Listener): { generation: Generation; done: Promise<CompletionEnd> } {
  const { scheduler, tokenizer, eos } = model
  const encoded = fit(request, model)
  const { ids, maxTokens } = encoded
  const spell = writtenBy(model)
  const written = (id: number): string => (request.alternatives === null ? '' : spell(id))
  const scored = (decoder: { push(id: number): string }, { id, logProbability, alternatives, layers }: PromptToken): ScoredToken => ({
    id, text: decoder.push(id), written: written(id), logProbability, layers,
    alternatives: alternatives.map((one) => ({ written: written(one.id), logProbability: one.logProbability })),
  })

  const promptTokens = ids.length + encoded.cut - encoded.added
  const readPrompt: ScoredToken[] = []
  const promptDecoder = tokenizer.createDecoder()
  const tellPrompt = (): void => on.onPrompt({ count: promptTokens, text: tokenizer.decode(ids.slice(encoded.added)), tokens: readPrompt })
  const onPrompt = (tokens: PromptToken[]): void => {
    const skipped = readPrompt.length === 0 ? encoded.added : 0
    for (const token of tokens.slice(skipped)) readPrompt.push(scored(promptDecoder, readPrompt.length === 0 ? { ...token, logProbability: null, alternatives: [] } : token))
    if (readPrompt.length === promptTokens) tellPrompt()
  }
  if (request.echo === 'text') tellPrompt()

  const decoder = tokenizer.createDecoder()
  const stops = createStopTexts([...request.stop, ...encoded.stop])
  const startedAt = performance.now()
  const batchNow = (): number => Math.floor(performance.now() / batchMs)
  let [sentIn, firstTokenMs, text, isStopped] = [-1, 0, '', false]
  const pending: ScoredToken[] = []
  const flush = (): void => {
    if (pending.length > 0 || text !== '') on.onTokens(pending.splice(0), text)
    text = ''
    sentIn = batchNow()
  }
  const generation = scheduler.submit(
    {
      prompt: ids, maxTokens, sampling: { temperature: request.temperature, topP: request.topP, seed: request.seed }, stopIds: [eos],
      reportStop: request.alternatives !== null, routing: request.routing, alternatives: request.alternatives ?? 0, ...(request.echo === 'scores' && { onPrompt }),
    },
    (token) => {
      if (firstTokenMs === 0) firstTokenMs = performance.now() - startedAt
      const one = scored(decoder, token)
      if (token.id === eos) one.text = ''
      pending.push(one)
      const shown = stops.push(one.text)
      text += shown.text
      isStopped = shown.isStopped
      if (isStopped) generation.cancel()
      else if (batchNow() !== sentIn) flush()
    },
  )
  const done = generation.done.then(({ end, tokens }): CompletionEnd => {
    if (!isStopped) text += stops.rest()
    flush()
    const seconds = (performance.now() - startedAt - firstTokenMs) / 1000
    const contextFull = end === 'length' && tokens < (request.maxTokens ?? Infinity)
    return { end: isStopped ? 'eos' : endings[end], promptTokens, cutTokens: encoded.cut, contextFull, tokens, tokensPerSecond: tokens > 1 ? (tokens - 1) / Math.max(seconds, 1e-9) : 0, firstTokenMs }
  })
  return { generation, done }
}
