/** A chat as text: what the model is given, and what the chat is called. */
import type { Message } from '#core/shared/chats.ts'

/**
 * The whole chat as one text, the way a base model reads: a reply goes on from its prompt without a break, and what the
 * user says next begins on a new line.
 */
export function promptOf(messages: readonly Pick<Message, 'role' | 'text'>[]): string {
  return messages.reduce((text, message) => text + (message.role === 'user' && text !== '' ? '\n' : '') + message.text, '')
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
