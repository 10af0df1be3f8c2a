/**
 * What was written as OpenAI's objects. The two endpoints differ in how a choice and its log-probabilities are spelled; a Spelling is that
 * difference, for a whole answer and for a piece of a stream. Experts are an addition of ours: [token][layer][chosen, strongest first].
 */
import type { CompletionEnd, CompletionPart, ScoredToken } from '#core/shared/completions.ts'
import type { Asked } from './requests.ts'

/** Characters that are written already. */
export type Place = { offset: number }
export type Spelling = {
  object: 'text_completion' | 'chat.completion'
  streamObject: 'text_completion' | 'chat.completion.chunk'
  /** A whole choice. */
  choice(index: number, text: string, tokens: ScoredToken[], finish: Finish, asked: Asked, place: Place): object
  /** A piece of one: the first has `isFirst`, the last a `finish`. */
  piece(index: number, text: string, tokens: ScoredToken[], finish: Finish | null, asked: Asked, place: Place, isFirst: boolean): object
}
export type Finish = 'stop' | 'length'

export const finishOf = ({ end }: CompletionEnd): Finish => (end === 'length' ? 'length' : 'stop')

/** Text and tokens of a part, the prompt that was asked back in front. */
export function contentOf({ prompt, tokens, text }: CompletionPart): { text: string; tokens: ScoredToken[] } {
  return prompt === null ? { text, tokens } : { text: prompt.text + text, tokens: [...prompt.tokens, ...tokens] }
}

const expertsOf = (tokens: readonly ScoredToken[], asked: Asked): object => (asked.experts ? { routed_experts: tokens.map(({ layers }) => layers.map(({ experts }) => experts)) } : {})

/** The most probable tokens by how they are written, and the token itself. */
function topOf({ written, logProbability, alternatives }: ScoredToken): Record<string, number> | null {
  if (logProbability === null) return null
  const top: Record<string, number> = {}
  for (const one of alternatives) top[one.written] ??= one.logProbability
  top[written] ??= logProbability
  return top
}

function completionLogprobs(tokens: readonly ScoredToken[], place: Place): object {
  const offsets = tokens.map(({ text }) => {
    const at = place.offset
    place.offset += text.length
    return at
  })
  return { tokens: tokens.map(({ written }) => written), token_logprobs: tokens.map(({ logProbability }) => logProbability), top_logprobs: tokens.map(topOf), text_offset: offsets }
}

const utf8 = new TextEncoder()
function chatLogprobs(tokens: readonly ScoredToken[]): object {
  const entry = (written: string, logProbability: number | null): { token: string; logprob: number; bytes: number[] } => {
    const escaped = /^bytes:((?:\\x[0-9a-f]{2})+)$/.exec(written)?.[1]
    return { token: written, logprob: logProbability ?? 0, bytes: escaped === undefined ? [...utf8.encode(written)] : escaped.slice(2).split('\\x').map((byte) => parseInt(byte, 16)) }
  }
  return { content: tokens.map((token) => ({ ...entry(token.written, token.logProbability), top_logprobs: token.alternatives.map((one) => entry(one.written, one.logProbability)) })), refusal: null }
}

export const completionSpelling: Spelling = {
  object: 'text_completion',
  streamObject: 'text_completion',
  choice: (index, text, tokens, finish, asked, place) => ({ index, text, logprobs: asked.logprobs ? completionLogprobs(tokens, place) : null, finish_reason: finish, ...expertsOf(tokens, asked) }),
  piece: (index, text, tokens, finish, asked, place) => ({ index, text, logprobs: asked.logprobs && tokens.length > 0 ? completionLogprobs(tokens, place) : null, finish_reason: finish, ...expertsOf(tokens, asked) }),
}

export const chatSpelling: Spelling = {
  object: 'chat.completion',
  streamObject: 'chat.completion.chunk',
  choice: (index, text, tokens, finish, asked) => ({ index, message: { role: 'assistant', content: text, refusal: null }, logprobs: asked.logprobs ? chatLogprobs(tokens) : null, finish_reason: finish, ...expertsOf(tokens, asked) }),
  piece: (index, text, tokens, finish, asked, _place, isFirst) => ({
    index, delta: finish === null ? { ...(isFirst && { role: 'assistant' }), content: text } : {}, logprobs: asked.logprobs && tokens.length > 0 ? chatLogprobs(tokens) : null, finish_reason: finish, ...expertsOf(tokens, asked),
  }),
}
