/**
 * A prompt as ids: text begins after an end-of-text token as training documents do, ids are taken as they are, and turns are rendered
 * by the model's chat template. What people write in a turn is never read as markup.
 */
import type { Tokenizer } from '#core/data/tokenizer.ts'
import type { Scheduler } from '#core/model/scheduler.ts'
import { renderChat, type ChatTemplate, type Turn } from '#core/shared/chat-templates.ts'
import type { Prompt } from '#core/shared/completions.ts'
import { AppError } from '#core/shared/errors.ts'

export type LoadedModel = { scheduler: Scheduler; tokenizer: Tokenizer; eos: number; vocabularySize: number; template: ChatTemplate | null }

/** `added`: tokens before what was asked for; `stop`: texts that end the model's turn; `cut`: tokens of turns that were left out. */
export type EncodedPrompt = { ids: number[]; added: number; stop: string[]; cut: number }

function checkIds(ids: readonly number[], vocabularySize: number): number[] {
  const bad = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= vocabularySize)
  if (bad < 0) return [...ids]
  const params = { position: bad, found: String(ids[bad]), expected: `0..${vocabularySize - 1}` }
  throw new AppError('tokens.outOfRange', `token ${bad} is ${String(ids[bad])}, expected an id in 0..${vocabularySize - 1}`, { params, hint: 'Tokenize with the model’s own tokenizer.' })
}

/** The turns without the oldest exchange after the system's; null when only the last turn is left. */
function withoutOldest(turns: readonly Turn[]): readonly Turn[] | null {
  const first = turns[0]?.role === 'system' ? 1 : 0
  const next = turns.findIndex(({ role }, i) => i > first && role === 'user')
  return next < 0 ? null : [...turns.slice(0, first), ...turns.slice(next)]
}

/** The ids of a prompt. Turns that take more than `room` are cut to half of it, so that they are not cut again with every one. Throws AppError `tokens.outOfRange`. */
export function encodePrompt(prompt: Prompt, { tokenizer, eos, vocabularySize, template }: LoadedModel, room = Infinity): EncodedPrompt {
  if (prompt.kind === 'ids') return { ids: checkIds(prompt.ids, vocabularySize), added: 0, stop: [], cut: 0 }
  if (prompt.kind === 'text') return { ids: [eos, ...tokenizer.encode(prompt.text)], added: 1, stop: [], cut: 0 }
  const encode = (text: string): number[] => [...tokenizer.encode(text, { special: 'text' })]
  const begun = encode(prompt.begun ?? '')
  if (template === null) return { ids: [eos, ...encode(prompt.turns.map(({ content }) => content).join('\n')), ...begun], added: 1, stop: [], cut: 0 }
  const render = (turns: readonly Turn[]): number[] => [...renderChat(template, turns, { reply: true }).flatMap(({ text }) => (text === null ? [eos] : encode(text))), ...begun]
  const whole = render(prompt.turns)
  let ids = whole
  if (whole.length > room) for (let left = withoutOldest(prompt.turns); left !== null && ids.length > room / 2; left = withoutOldest(left)) ids = render(left)
  const end = template.assistant.after.split('{eos}')[0]!.trim()
  return { ids, added: 0, stop: end === '' ? [] : [end], cut: whole.length - ids.length }
}
