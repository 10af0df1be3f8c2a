/** A chat as text: what the model is given, what the chat is called, and where a search found it. */
import type { Message } from '#core/shared/chats.ts'
import type { Prompt } from '#core/shared/completions.ts'

type Said = Pick<Message, 'role' | 'text'>

/**
 * The whole branch as one text, the way a base model reads: a reply goes on from its prompt without a break, and what the
 * user says next begins on a new line.
 */
export function textOf(messages: readonly Said[]): string {
  return messages.reduce((text, message) => text + (message.role === 'user' && text !== '' ? '\n' : '') + message.text, '')
}

/** The branch as an adapted model reads it: turns after the system's. A reply at its end has been begun and is to go on. */
export function turnsOf(messages: readonly Said[], systemPrompt: string): Extract<Prompt, { kind: 'turns' }> {
  const begun = messages.at(-1)?.role === 'model' ? messages.at(-1)!.text : null
  const said = begun === null ? messages : messages.slice(0, -1)
  const system = systemPrompt.trim() === '' ? [] : [{ role: 'system' as const, content: systemPrompt }]
  return { kind: 'turns', turns: [...system, ...said.map(({ role, text }) => ({ role: role === 'user' ? ('user' as const) : ('assistant' as const), content: text }))], ...(begun !== null && { begun }) }
}

const longestTitle = 48

/** The first words of a text, whole words where it has any (Chinese has no spaces: there it is cut by characters). */
export function titleOf(text: string): string {
  const line = text.trim().replace(/\s+/g, ' ')
  const characters = [...line]
  if (characters.length <= longestTitle) return line
  const cut = characters.slice(0, longestTitle - 1).join('')
  const lastSpace = cut.lastIndexOf(' ')
  return `${lastSpace > longestTitle / 2 ? cut.slice(0, lastSpace) : cut}…`
}

/** Small letters, character for character, so that places in it are places in the text. */
const folded = (text: string): string => Array.from(text, (one) => (one.toLowerCase().length === one.length ? one.toLowerCase() : one)).join('')

/** Whether the text has all of these words in it, whatever their case. */
export function hasWords(text: string, words: readonly string[]): boolean {
  const all = folded(text)
  return words.every((word) => all.includes(folded(word)))
}

const excerptBefore = 24
const excerptLength = 96

/** A line of the text around the first of the words. */
export function excerptOf(text: string, words: readonly string[]): string {
  const all = folded(text)
  const places = words.map((word) => all.indexOf(folded(word))).filter((place) => place >= 0)
  const from = Math.max(0, Math.min(...places, text.length) - excerptBefore)
  // Not through the middle of a character.
  const line = text.slice(from, from + excerptLength).replace(/^[\uDC00-\uDFFF]|[\uD800-\uDBFF]$/g, '').replace(/\s+/g, ' ').trim()
  return `${from > 0 ? '…' : ''}${line}${from + excerptLength < text.length ? '…' : ''}`
}
