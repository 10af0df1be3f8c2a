/**
 * Conversations as token sequences with a loss for every token. Text is tokenized piece by piece, cut where loss begins and ends, which is how
 * a chat feeds it: a prompt whole, then the answer. Special tokens written in a text stay text.
 */
import type { AdaptationStage } from '#core/shared/adaptation.ts'
import { renderChat, type ChatTemplate, type Turn } from '#core/shared/chat-templates.ts'
import type { Tokenizer } from '../tokenizer.ts'
import type { Answer, Example } from './rows.ts'

/** loss[t]: whether the prediction of token t is trained. */
export type Sequence = { ids: number[]; loss: boolean[] }
/** What a step takes one by one: SFT a conversation; DPO the chosen and the rejected one; KTO an answer and a mismatched one. */
export type Instance = { sequences: Sequence[]; desirable: boolean }
export type Encoder = (turns: readonly Turn[], onlyAfter?: number) => Sequence

/** Encodes with a template; with `onlyAfter`, turns before that one carry no loss (a pair's common prompt). */
export function createEncoder(tokenizer: Tokenizer, template: ChatTemplate, eosId: number): Encoder {
  const encode = (turns: readonly Turn[], prompt: boolean): Sequence => {
    const sequence: Sequence = { ids: [], loss: [] }
    for (const { text, loss } of renderChat(template, turns, { reply: prompt })) {
      const ids = text === null ? [eosId] : tokenizer.encode(text, { special: 'text' })
      for (const id of ids) {
        sequence.ids.push(id)
        sequence.loss.push(loss)
      }
    }
    return sequence
  }
  return (turns, onlyAfter = 0) => {
    const whole = encode(turns, false)
    if (onlyAfter === 0) return whole
    // Loss in earlier turns ends where the header of the first answered turn does.
    const before = encode(turns.slice(0, onlyAfter), true).ids.length
    return { ids: whole.ids, loss: whole.loss.map((loss, t) => loss && t >= before) }
  }
}

const encodeAnswer = (encode: Encoder, { prompt, answer }: Answer): Sequence => encode([...prompt, ...answer], prompt.length)

/** The answers of `examples` that a stage trains on. */
export async function* answersFor(stage: AdaptationStage, examples: AsyncIterable<Example> | Iterable<Example>): AsyncGenerator<Answer[]> {
  for await (const { answers, isPair } of examples) {
    if (stage === 'sft') yield* answers.filter(({ desirable }) => desirable).map((answer) => [answer])
    else if (stage === 'kto') yield* answers.map((answer) => [answer])
    else if (isPair) yield answers
  }
}

const samePrompt = (a: Answer, b: Answer): boolean => JSON.stringify(a.prompt) === JSON.stringify(b.prompt)

/** KTO's instances: each answer beside the answer to the next other prompt, as if given to its own, which estimates the divergence from the reference. */
async function* withMismatch(answers: AsyncIterable<Answer[]>): AsyncGenerator<Answer[]> {
  let waiting: Answer[] = []
  let first: Answer | null = null
  const flush = function* (next: Answer): Generator<Answer[]> {
    for (const own of waiting) yield [own, { ...own, answer: next.answer }]
    waiting = []
  }
  for await (const [answer] of answers) {
    first ??= answer!
    if (waiting.length > 0 && !samePrompt(waiting[0]!, answer!)) yield* flush(answer!)
    waiting.push(answer!)
  }
  if (first !== null) yield* flush(first)
}

/** Encodes what a stage trains on. A conversation's own turns all count in SFT; in DPO and KTO only the answer. */
export async function* encodeInstances(stage: AdaptationStage, examples: AsyncIterable<Example> | Iterable<Example>, encode: Encoder): AsyncGenerator<Instance & { promptText: string }> {
  const answers = answersFor(stage, examples)
  for await (const group of stage === 'kto' ? withMismatch(answers) : answers) {
    const sequences = group.map((answer) => (stage === 'sft' ? encode([...answer.prompt, ...answer.answer]) : encodeAnswer(encode, answer)))
    yield { sequences, desirable: group[0]!.desirable, promptText: JSON.stringify(group[0]!.prompt) }
  }
}
