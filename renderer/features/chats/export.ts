/** A chat as a file: the branch on the page as Markdown to read, or every branch as a line of messages, as training and other tools read them. */
import type { Message } from '#core/shared/chats.ts'
import { branchTo, leaves } from '#core/shared/chat-tree.ts'

type Said = Pick<Message, 'role' | 'text' | 'checkpointId'>

/** `nameOf` names who said it in the reader's language. */
export function toMarkdown(title: string, systemPrompt: string, branch: readonly Said[], nameOf: (said: Said | 'system') => string): string {
  const turns = branch.map((message) => `**${nameOf(message)}**\n\n${message.text.trim()}`)
  const system = systemPrompt.trim() === '' ? [] : [`**${nameOf('system')}**\n\n${systemPrompt.trim()}`]
  return `${[`# ${title}`, ...system, ...turns].join('\n\n')}\n`
}

/** One line per branch that ends in a reply: `{"messages": [{"role", "content"}]}`. */
export function toJsonLines(systemPrompt: string, messages: readonly Message[]): string {
  const system = systemPrompt.trim() === '' ? [] : [{ role: 'system', content: systemPrompt }]
  const ends = leaves(messages).filter(({ role }) => role === 'model')
  const lines = ends.map(({ id }) => {
    const turns = branchTo(messages, id).map(({ role, text }) => ({ role: role === 'user' ? 'user' : 'assistant', content: text }))
    return JSON.stringify({ messages: [...system, ...turns] })
  })
  return lines.map((line) => `${line}\n`).join('')
}
