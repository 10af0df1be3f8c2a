/**
 * Chat templates as data: what stands around each turn of a conversation. One small renderer serves training, where it also tells
 * which parts carry loss, and chatting, where it ends with the header of the reply. `{eos}` in a template is the model's
 * end-of-text token, never text; what people write is never read as markup. For other tools a template is also written as Jinja.
 */
import { z } from 'zod'

export const chatRoles = ['system', 'user', 'assistant'] as const
export const turnSchema = z.object({ role: z.enum(chatRoles), content: z.string() })
export type Turn = z.infer<typeof turnSchema>

const aroundSchema = z.object({ before: z.string().max(200), after: z.string().max(200) })

export const chatTemplateSchema = z.object({
  name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  /** Before the first turn. */
  start: z.string().max(200),
  system: aroundSchema,
  user: aroundSchema,
  assistant: aroundSchema,
  /** Whether white space at the very end is left out of a finished conversation. */
  trimEnd: z.boolean(),
})
export type ChatTemplate = z.infer<typeof chatTemplateSchema>

/** A piece of a rendered conversation: text, or the end-of-text token where `text` is null. */
export type Segment = { text: string | null; loss: boolean }

const eosMark = '{eos}'

/** Adds template text or a person's text; neighbours of one kind become one, so that they are tokenized as one. */
function append(segments: Segment[], text: string, loss: boolean): void {
  const last = segments.at(-1)
  if (text === '') return
  if (last && last.text !== null && last.loss === loss) last.text += text
  else segments.push({ text, loss })
}

function appendMarkup(segments: Segment[], markup: string, loss: boolean): void {
  markup.split(eosMark).forEach((text, i) => {
    if (i > 0) segments.push({ text: null, loss })
    append(segments, text, loss)
  })
}

function trimEnd(segments: Segment[]): Segment[] {
  const last = segments.at(-1)
  if (!last || last.text === null) return segments
  const text = last.text.trimEnd()
  return [...segments.slice(0, -1), ...(text === '' ? [] : [{ ...last, text }])]
}

/**
 * The pieces of a conversation. Loss is on assistant turns, on all that follows their header. `reply`: ends with that header, for the
 * model to go on.
 */
export function renderChat(template: ChatTemplate, turns: readonly Turn[], { reply = false } = {}): Segment[] {
  const segments: Segment[] = []
  appendMarkup(segments, template.start, false)
  for (const { role, content } of turns) {
    const loss = role === 'assistant'
    appendMarkup(segments, template[role].before, false)
    append(segments, content, loss)
    appendMarkup(segments, template[role].after, loss)
  }
  if (reply) appendMarkup(segments, template.assistant.before, false)
  return template.trimEnd && !reply ? trimEnd(segments) : segments
}

/** The pieces as one text, the end-of-text token written out as `eos`. */
export const segmentsToText = (segments: readonly Segment[], eos: string): string => segments.map(({ text }) => text ?? eos).join('')

/** A template's text as a Jinja expression of strings and eos_token. */
function jinjaOf(markup: string): string[] {
  const quoted = (text: string): string => `'${text.replace(/\\/g, '\\\\').replace(/'/g, "\\'").replace(/\n/g, '\\n')}'`
  return markup.split(eosMark).flatMap((text, i) => [...(i > 0 ? ['eos_token'] : []), ...(text === '' ? [] : [quoted(text)])])
}

/** The template in the language of tokenizer_config.json's chat_template. */
export function toJinja(template: ChatTemplate): string {
  const say = (parts: string[]): string => (parts.length === 0 ? '' : `{{ ${parts.join(' + ')} }}`)
  const turn = (role: (typeof chatRoles)[number], i: number): string => {
    const { before, after } = template[role]
    const whole = (end: string): string => say([...jinjaOf(before), "message['content']", ...jinjaOf(end)])
    const trimmed = template.trimEnd ? after.trimEnd() : after
    const text = trimmed === after ? whole(after) : `{% if loop.last and not add_generation_prompt %}${whole(trimmed)}{% else %}${whole(after)}{% endif %}`
    return `{% ${i === 0 ? 'if' : 'elif'} message['role'] == '${role}' %}${text}`
  }
  return `${say(jinjaOf(template.start))}{% for message in messages %}${chatRoles.map(turn).join('')}{% endif %}{% endfor %}{% if add_generation_prompt %}${say(jinjaOf(template.assistant.before))}{% endif %}`
}
