/**
 * What a model is asked to write, and what it gives: one request for chats, the HTTP API and scoring. A prompt is text, ids, or
 * the turns of a conversation; only the runner, which holds the tokenizer and the chat template, turns it into ids.
 */
import type { Turn } from './chat-templates.ts'
import type { Token } from './chats.ts'

export type Prompt =
  /** Tokenized after an end-of-text token, as documents of the training data begin. */
  | { kind: 'text'; text: string }
  /** As they are. */
  | { kind: 'ids'; ids: readonly number[] }
  /** Rendered by the model's chat template; without one, a turn to a line. `begun`: what there is of the reply, to go on with. */
  | { kind: 'turns'; turns: readonly Turn[]; begun?: string }

export type CompletionRequest = {
  prompt: Prompt
  /** null: all that the context has room for. 0 only with `echo`. */
  maxTokens: number | null
  temperature: number
  topP: number
  seed: number
  /** Texts that end the reply, of which they are no part. */
  stop: readonly string[]
  /** Gives the prompt back: its text, or its tokens with their log-probabilities. */
  echo: 'none' | 'text' | 'scores'
  /** Most probable tokens beside each; null: no scores are of interest, and the end-of-text token is not reported. */
  alternatives: number | null
  /** Reports the experts of each token. */
  routing: boolean
  /** Cuts a prompt that leaves no room from the left instead of refusing it: turns whole, the system's kept. */
  cutToFit: boolean
}

/** What the API says more of a token: how it is written by itself (empty where `alternatives` were not asked for), its log-probability (null where nothing is before it), and what else was probable. */
export type ScoredToken = Omit<Token, 'probability'> & { written: string; logProbability: number | null; alternatives: { written: string; logProbability: number }[] }

/** A prompt as it was read: how many tokens, its text, and its scored tokens where they were asked for. */
export type ReadPrompt = { count: number; text: string; tokens: ScoredToken[] }

/** What has been written since the part before: `text` leaves out what may yet turn out to be the beginning of a stop text. */
export type CompletionPart = { prompt: ReadPrompt | null; tokens: ScoredToken[]; text: string }

/**
 * How a text ended: `eos` by the model's end-of-text token or a stop text. `cutTokens` of the prompt had no room in the context; `contextFull`:
 * the text ended where the context did, before it was as long as asked.
 */
export type CompletionEnd = { end: 'length' | 'eos' | 'stopped'; promptTokens: number; cutTokens: number; contextFull: boolean; tokens: number; tokensPerSecond: number; firstTokenMs: number }
