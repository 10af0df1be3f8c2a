/**
 * Continuous batching: texts that are being made at the same time join and leave between steps. Every round feeds a chunk of one
 * prompt, in turns, and of more of them while that takes little time, and then decodes a token of each text whose prompt is in; more
 * texts than there are caches wait in line.
 * A cache keeps what it holds after its text ends, and a new prompt goes where most of its beginning is already.
 *
 * A prompt is always cut into the same chunks and a token's sums do not depend on its neighbours, so a text is the same, bit for bit,
 * whoever else is served. It knows ids only: text, stop strings and what a token is reported as are the caller's.
 */
import type { Backend } from '#core/backend/backend.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { createRandom, type Random } from '#core/shared/random.ts'
import type { PackedWeights } from './packed-weights.ts'
import type { Weights } from './parameters.ts'
import { mostProbable, sampleToken, scoreToken, type Sample, type SamplingSettings } from './sampling.ts'
import { createSequences, type LayerRouting } from './sequences.ts'

export type GenerationRequest = {
  /** Ids, at least one. */
  prompt: readonly number[]
  /** 0 only where the prompt is scored; with the prompt at most the capacity. */
  maxTokens: number
  sampling: SamplingSettings & { seed: number }
  /** Ids that end the text, of which they are no part. */
  stopIds?: readonly number[]
  /** Most probable tokens to report beside each. Default 0. */
  alternatives?: number
  /** Reports a stop id as the last token of the text. Default false. */
  reportStop?: boolean
  /** Reports the tokens of the prompt, each scored given those before it; the whole prompt is fed then. */
  onPrompt?(tokens: PromptToken[]): void
  /** Reports every token's experts, which are known when the token has gone through the model: one step later. */
  routing?: boolean
}

export type GeneratedToken = Sample & { alternatives: Sample[]; layers: LayerRouting[] }
/** The first of a prompt has nothing before it. */
export type PromptToken = Omit<GeneratedToken, 'logProbability'> & { logProbability: number | null }
export type GenerationEnd = { end: 'length' | 'stop' | 'cancelled'; tokens: number }
export type Generation = {
  /** Rejects when the backend fails. */
  readonly done: Promise<GenerationEnd>
  /** Ends it before its next token; within onToken, with this one. */
  cancel(): void
}

export type Scheduler = {
  /** Tokens of prompt and text together that fit. */
  readonly capacity: number
  /** Starts a text, or puts it in line. Throws AppError `tokens.tooLong`. */
  submit(request: GenerationRequest, onToken: (token: GeneratedToken) => void): Generation
  /** Cancels everything and frees the caches. */
  close(): Promise<void>
}

/** Tokens of a prompt that others wait for at a time ... */
const chunkTokens = 128
/** ... and how long they wait for more than one prompt. */
const chunksMs = 10

/** A text being made: `todo` of its prompt is not fed yet; `next` is drawn and not fed yet. */
type Text = {
  request: GenerationRequest
  onToken: (token: GeneratedToken) => void
  random: Random
  todo: readonly number[]
  next: Omit<GeneratedToken, 'layers'> | null
  /** The score of the next token of a prompt that is scored. */
  ahead: Pick<PromptToken, 'logProbability' | 'alternatives'>
  made: number
  isCancelled: boolean
  fedAt: number
  finish(end: GenerationEnd['end']): void
  fail(error: unknown): void
}
/** A cache: the ids it holds, and the text that goes on in it. */
type Slot = { sequence: number; ids: number[]; text: Text | null; usedAt: number }
type Busy = Slot & { text: Text }

function commonLength(a: readonly number[], b: readonly number[]): number {
  let common = 0
  while (common < a.length && common < b.length && a[common] === b[common]) common++
  return common
}

/** `now`: a clock in milliseconds, so that several prompts are fed in a round only while that takes little time. */
export type SchedulerOptions = { count: number; capacity: number; now(): number }

/** Serves texts of at most `capacity` tokens, `count` at a time, from allocated (or loaded) `weights`. */
export function createScheduler(backend: Backend, config: ModelConfig, weights: Weights | PackedWeights, { count, capacity, now }: SchedulerOptions): Scheduler {
  const sequences = createSequences(backend, config, weights, { count, capacity })
  const slots: Slot[] = Array.from({ length: count }, (_, sequence) => ({ sequence, ids: [], text: null, usedAt: 0 }))
  const waiting: Text[] = []
  let clock = 0
  let serving: Promise<void> | null = null

  const busy = (is: (text: Text) => boolean): Busy[] => slots.filter((slot): slot is Busy => slot.text !== null && is(slot.text))

  const leave = (slot: Slot, end: GenerationEnd['end']): void => {
    const { text } = slot
    slot.text = null
    slot.usedAt = ++clock
    text!.finish(end)
  }

  const report = (slot: Busy, layers: LayerRouting[]): void => {
    const { text } = slot
    text.onToken({ ...text.next!, layers })
    if (text.isCancelled) leave(slot, 'cancelled')
    else if (text.request.stopIds?.includes(text.next!.id)) leave(slot, 'stop')
    else if (text.made === text.request.maxTokens) leave(slot, 'length')
  }

  const draw = (slot: Busy, logits: Float32Array): void => {
    const { text } = slot
    const { sampling, stopIds = [], alternatives = 0, routing = false, reportStop = false, maxTokens } = text.request
    if (maxTokens === 0) return leave(slot, 'length')
    const sample = sampleToken(logits, sampling, text.random)
    if (stopIds.includes(sample.id) && !reportStop) return leave(slot, 'stop')
    text.made++
    text.next = { ...sample, alternatives: mostProbable(logits, alternatives) }
    if (!routing) report(slot, [])
  }

  /** Gives a free cache to the text that waits longest. */
  const admit = (): void => {
    for (let free = slots.filter((slot) => slot.text === null); free.length > 0 && waiting.length > 0; free = slots.filter((slot) => slot.text === null)) {
      const text = waiting.shift()!
      const { prompt } = text.request
      // The last token is always fed, for its logits. Of equals, the cache that was left alone longest.
      const reused = (slot: Slot): number => (text.request.onPrompt ? 0 : commonLength(slot.ids, prompt.slice(0, -1)))
      const slot = free.reduce((a, b) => (reused(b) > reused(a) || (reused(b) === reused(a) && b.usedAt < a.usedAt) ? b : a))
      slot.ids.length = reused(slot)
      sequences.truncate(slot.sequence, slot.ids.length)
      text.todo = prompt.slice(slot.ids.length)
      slot.text = text
    }
  }

  /** Feeds ids of a prompt that is scored and reports them; the logits after the last. */
  const feedScored = async ({ sequence, text }: Busy, ids: readonly number[]): Promise<Float32Array> => {
    const { alternatives = 0, routing = false, onPrompt } = text.request
    const logits = await sequences.feedAll(sequence, ids)
    const tokens: PromptToken[] = []
    for (const [row, id] of ids.entries()) {
      tokens.push({ id, ...text.ahead, layers: routing ? await sequences.routing(row) : [] })
      const next = text.todo[row + 1]
      if (next !== undefined) text.ahead = { logProbability: scoreToken(logits[row]!, next).logProbability, alternatives: mostProbable(logits[row]!, alternatives) }
    }
    onPrompt!(tokens)
    return logits.at(-1)!
  }

  const feedChunk = async (slot: Busy): Promise<void> => {
    const { text } = slot
    const ids = text.todo.slice(0, chunkTokens)
    text.fedAt = ++clock
    const logits = await (text.request.onPrompt ? feedScored(slot, ids) : sequences.feed(slot.sequence, ids))
    slot.ids.push(...ids)
    text.todo = text.todo.slice(ids.length)
    if (text.todo.length === 0) draw(slot, logits)
  }

  const feedPrompts = async (): Promise<void> => {
    const startedAt = now()
    // A prompt has one chunk a round: a long one does not keep the texts of others waiting.
    for (const slot of busy(({ todo }) => todo.length > 0).sort((a, b) => a.text.fedAt - b.text.fedAt)) {
      await feedChunk(slot)
      if (now() - startedAt >= chunksMs) return
    }
  }

  const decode = async (): Promise<void> => {
    const turns = busy(({ next, isCancelled }) => next !== null && !isCancelled)
    if (turns.length === 0) return
    const logits = await sequences.step(turns.map(({ sequence, text }) => ({ sequence, id: text.next!.id })))
    const needsRouting = turns.some(({ text }) => text.request.routing)
    for (const [row, slot] of turns.entries()) {
      slot.ids.push(slot.text.next!.id)
      if (needsRouting && slot.text.request.routing) report(slot, await sequences.routing(row))
      if ((slot as Slot).text !== null) draw(slot, logits[row]!)
    }
  }

  const dropCancelled = (): void => {
    for (const slot of busy(({ isCancelled }) => isCancelled)) leave(slot, 'cancelled')
    for (let i = waiting.length - 1; i >= 0; i--) if (waiting[i]!.isCancelled) waiting.splice(i, 1)[0]!.finish('cancelled')
  }

  const serve = async (): Promise<void> => {
    for (;;) {
      dropCancelled()
      admit()
      if (slots.every((slot) => slot.text === null)) return
      try {
        await feedPrompts()
        await decode()
      } catch (error) {
        // What the caches hold is unknown now.
        for (const slot of slots) {
          slot.text?.fail(error)
          slot.text = null
          slot.ids.length = 0
          sequences.truncate(slot.sequence, 0)
        }
      }
    }
  }

  const wake = (): void => {
    serving ??= serve().finally(() => {
      serving = null
      if (waiting.length > 0) wake()
    })
  }

  return {
    capacity,
    submit(request, onToken) {
      const { prompt, maxTokens, sampling, onPrompt } = request
      if (prompt.length === 0 || maxTokens < (onPrompt ? 0 : 1)) throw new Error('scheduler: a prompt has at least one token, and a text too')
      if (prompt.length + maxTokens > capacity) {
        const params = { found: prompt.length + maxTokens, expected: capacity }
        throw new AppError('tokens.tooLong', `prompt (${prompt.length}) + text (${maxTokens}) exceed ${capacity} tokens`, { params, hint: 'Shorten the prompt or ask for fewer tokens.' })
      }
      let text!: Text
      const done = new Promise<GenerationEnd>((resolve, reject) => {
        const finish = (end: GenerationEnd['end']): void => resolve({ end, tokens: text.made })
        text = { request, onToken, random: createRandom(sampling.seed, 'sampling'), todo: prompt, next: null, ahead: { logProbability: null, alternatives: [] }, made: 0, isCancelled: false, fedAt: 0, finish, fail: reject }
      })
      waiting.push(text)
      wake()
      return { done, cancel: () => void (text.isCancelled = true) }
    },
    async close() {
      for (const { text } of slots) if (text) text.isCancelled = true
      for (const text of waiting) text.isCancelled = true
      await serving
      sequences.release()
    },
  }
}
