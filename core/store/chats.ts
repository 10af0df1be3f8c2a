/** Chats and their messages as rows, in the order they were said. */
import { z } from 'zod'
import { tokenSchema, type Chat, type Message, type Token } from '#core/shared/chats.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

type ChatRow = { id: string; checkpoint_id: string; title: string; created_at: number }
type MessageRow = {
  id: string
  role: Message['role']
  text: string
  tokens: string
  created_at: number
  ended: Message['end']
  tokens_per_second: number | null
  first_token_ms: number | null
  seed: number | null
}

const tokensSchema = z.array(tokenSchema)

/** All chats, newest first, without their messages. */
export function listChats(store: ReadableStore): Chat[] {
  const rows = prepare(store, 'SELECT * FROM chats ORDER BY created_at DESC').all() as ChatRow[]
  return rows.map((row) => toChat(row, []))
}

/** One chat with its messages, or null. */
export function findChat(store: ReadableStore, id: string): Chat | null {
  const row = prepare(store, 'SELECT * FROM chats WHERE id = ?').get(id) as ChatRow | undefined
  if (row === undefined) return null
  const messages = prepare(store, 'SELECT * FROM messages WHERE chat_id = ? ORDER BY number').all(id) as MessageRow[]
  return toChat(row, messages.map(toMessage))
}

export function insertChat(store: WritableStore, chat: Omit<Chat, 'messages'>): void {
  prepare(store, 'INSERT INTO chats (id, checkpoint_id, title, created_at) VALUES (?, ?, ?, ?)').run(chat.id, chat.checkpointId, chat.title, chat.createdAt)
}

export function setChatTitle(store: WritableStore, id: string, title: string): void {
  prepare(store, 'UPDATE chats SET title = ? WHERE id = ?').run(title, id)
}

export function deleteChat(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM chats WHERE id = ?').run(id)
}

export function insertMessage(store: WritableStore, chatId: string, message: Message): void {
  prepare(
    store,
    `INSERT INTO messages (id, chat_id, role, text, tokens, created_at, ended, tokens_per_second, first_token_ms, seed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  ).run(
    message.id, chatId, message.role, message.text, JSON.stringify(message.tokens), message.createdAt,
    message.end, message.tokensPerSecond, message.firstTokenMs, message.seed,
  )
}

/** Writes what a model message has become; its role, place and time stay. */
export function updateMessage(store: WritableStore, message: Message): void {
  prepare(store, 'UPDATE messages SET text = ?, tokens = ?, ended = ?, tokens_per_second = ?, first_token_ms = ? WHERE id = ?').run(
    message.text, JSON.stringify(message.tokens), message.end, message.tokensPerSecond, message.firstTokenMs, message.id,
  )
}

export function deleteMessage(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM messages WHERE id = ?').run(id)
}

/** Replies whose core died while they were made: what was saved of them stands, as stopped. */
export function endOpenMessages(store: WritableStore): void {
  prepare(store, "UPDATE messages SET ended = 'stopped' WHERE role = 'model' AND ended IS NULL").run()
}

const toChat = (row: ChatRow, messages: Message[]): Chat => ({
  id: row.id,
  checkpointId: row.checkpoint_id,
  title: row.title,
  createdAt: row.created_at,
  messages,
})

const toMessage = (row: MessageRow): Message => ({
  id: row.id,
  role: row.role,
  text: row.text,
  tokens: readJson<Token[]>(tokensSchema, row.tokens, `messages.tokens of ${row.id}`),
  createdAt: row.created_at,
  end: row.ended,
  tokensPerSecond: row.tokens_per_second,
  firstTokenMs: row.first_token_ms,
  seed: row.seed,
})
