/**
 * A prompt as ids: text begins after an end-of-text token as training documents do, ids are taken as they are, and turns are rendered
 * by the model's chat template. What people write in a turn is never read as markup.
 */
import type { Tokenizer } from '#core/data/tokenizer.ts'
import type { Scheduler } from '#core/model/scheduler.ts'
import { renderChat, type ChatTemplate } from '#core/shared/chat-templates.ts'
import type { Prompt } from '#core/shared/completions.ts'
import { AppError } from '#core/shared/errors.ts'

export type LoadedModel = { scheduler: Scheduler; tokenizer: Tokenizer; eos: number; vocabularySize: number; template: ChatTemplate | null }

/** `added`: tokens before what was asked for; `stop`: texts that end the model's turn. */
export type EncodedPrompt = { ids: number[]; added: number; stop: string[] }

function checkIds(ids: readonly number[], vocabularySize: number): number[] {
  const bad = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize)
  if (bad < 0) return [...ids]
  const params = { position: bad, found: String(ids[bad]), expected: `0..${vocabularySize - 1}` }
  throw new AppError('tokens.outOfRange', `token ${bad} is ${String(ids[bad])}, expected an id in 0..${vocabularySize - 1}`, { params, hint: 'Tokenize with the model’s own tokenizer.' })
}

/** The ids of a prompt. Throws AppError `tokens.outOfRange`. */
export function encodePrompt(prompt: Prompt, { tokenizer, eos, vocabularySize, template }: LoadedModel): EncodedPrompt {
  if (prompt.kind === 'ids') return { ids: checkIds(prompt.ids, vocabularySize), added: 0, stop: [] }
  if (prompt.kind === 'text') return { ids: [eos, ...tokenizer.encode(prompt.text)], added: 1, stop: [] }
  if (template === null) return { ids: [eos, ...tokenizer.encode(prompt.turns.map(({ content }) => content).join('\n'), { special: 'text' })], added: 1, stop: [] }
  const ids = renderChat(template, prompt.turns, { reply: true }).flatMap(({ text }) => (text === null ? [eos] : [...tokenizer.encode(text, { special: 'text' })]))
  const end = template.assistant.after.split('{eos}')[0]!.trim()
  return { ids, added: 0, stop: end === '' ? [] : [end] }
}
