/** Chats and their messages as rows, messages in the order they were said. What the messages' tree means is core/shared/chat-tree.ts. */
import { z } from 'zod'
import { samplingSchema, tokenSchema, type Chat, type Column, type Message, type Sampling, type Token, type WholeChat } from '#core/shared/chats.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

type ChatRow = {
  id: string
  checkpoint_id: string
  title: string
  created_at: number
  updated_at: number
  system_prompt: string
  sampling: string | null
  leaf_id: string | null
  second_checkpoint_id: string | null
  second_leaf_id: string | null
}
type MessageRow = {
  id: string
  parent_id: string | null
  role: Message['role']
  checkpoint_id: string | null
  text: string
  tokens: string
  created_at: number
  ended: Message['end']
  tokens_per_second: number | null
  first_token_ms: number | null
  seed: number | null
  cut_tokens: number
  context_full: number
}

const tokensSchema = z.array(tokenSchema)

/** All chats, last written first. */
export function listChats(store: ReadableStore): Chat[] {
  return (prepare(store, 'SELECT * FROM chats ORDER BY updated_at DESC').all() as ChatRow[]).map(toChat)
}

/** One chat with its messages, or null. */
export function findChat(store: ReadableStore, id: string): WholeChat | null {
  const row = prepare(store, 'SELECT * FROM chats WHERE id = ?').get(id) as ChatRow | undefined
  if (row === undefined) return null
  const messages = prepare(store, 'SELECT * FROM messages WHERE chat_id = ? ORDER BY number').all(id) as MessageRow[]
  return { ...toChat(row), messages: messages.map(toMessage) }
}

/** Fewer characters than this are not indexed. */
const indexedCharacters = 3
const likeOf = (word: string): string => `%${word.replace(/[\\%_]/g, (sign) => `\\${sign}`)}%`

/** The newest message of each chat that has all these words in one message; the index is asked for the long ones. */
export function findMessages(store: ReadableStore, words: readonly string[]): { chatId: string; messageId: string; text: string }[] {
  const indexed = words.filter((word) => [...word].length >= indexedCharacters)
  const short = words.filter((word) => [...word].length < indexedCharacters)
  const where = [
    ...(indexed.length > 0 ? ['number IN (SELECT rowid FROM messages_text WHERE messages_text MATCH ?)'] : []),
    ...short.map(() => "text LIKE ? ESCAPE '\\'"),
  ]
  const match = indexed.map((word) => `"${word.replaceAll('"', '""')}"`).join(' AND ')
  const sql = `SELECT chat_id AS chatId, id AS messageId, text, max(number) FROM messages WHERE ${where.join(' AND ')} GROUP BY chat_id`
  return prepare(store, sql).all(...(match === '' ? [] : [match]), ...short.map(likeOf)) as { chatId: string; messageId: string; text: string }[]
}

export function insertChat(store: WritableStore, { id, title, createdAt, updatedAt, systemPrompt, columns: [first, second] }: Chat): void {
  prepare(store, 'INSERT INTO chats (id, checkpoint_id, title, created_at, updated_at, system_prompt, second_checkpoint_id) VALUES (?, ?, ?, ?, ?, ?, ?)').run(
    id, first!.checkpointId, title, createdAt, updatedAt, systemPrompt, second?.checkpointId ?? null,
  )
}

export function setChatTitle(store: WritableStore, id: string, title: string): void {
  prepare(store, 'UPDATE chats SET title = ? WHERE id = ?').run(title, id)
}

export function setSystemPrompt(store: WritableStore, id: string, systemPrompt: string): void {
  prepare(store, 'UPDATE chats SET system_prompt = ? WHERE id = ?').run(systemPrompt, id)
}

export function setColumns(store: WritableStore, id: string, [first, second]: readonly Column[]): void {
  prepare(store, 'UPDATE chats SET checkpoint_id = ?, leaf_id = ?, second_checkpoint_id = ?, second_leaf_id = ? WHERE id = ?').run(
    first!.checkpointId, first!.leafId, second?.checkpointId ?? null, second?.leafId ?? null, id,
  )
}

/** A column's branch now ends there. */
export function setLeaf(store: WritableStore, id: string, column: number, leafId: string): void {
  prepare(store, `UPDATE chats SET ${column === 0 ? 'leaf_id' : 'second_leaf_id'} = ? WHERE id = ?`).run(leafId, id)
}

/** It was written in just now, with these settings. */
export function touchChat(store: WritableStore, id: string, updatedAt: number, sampling: Sampling): void {
  prepare(store, 'UPDATE chats SET updated_at = ?, sampling = ? WHERE id = ?').run(updatedAt, JSON.stringify(sampling), id)
}

export function deleteChat(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM chats WHERE id = ?').run(id)
}

export function insertMessage(store: WritableStore, chatId: string, message: Message): void {
  prepare(
    store,
    `INSERT INTO messages (id, chat_id, parent_id, role, checkpoint_id, text, tokens, created_at, ended, tokens_per_second, first_token_ms, seed, cut_tokens, context_full) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  ).run(
    message.id, chatId, message.parentId, message.role, message.checkpointId, message.text, JSON.stringify(message.tokens), message.createdAt,
    message.end, message.tokensPerSecond, message.firstTokenMs, message.seed, message.cutTokens, Number(message.contextFull),
  )
}

/** Writes what a model message has become; its role, place and time stay. */
export function updateMessage(store: WritableStore, message: Message): void {
  prepare(store, 'UPDATE messages SET text = ?, tokens = ?, ended = ?, tokens_per_second = ?, first_token_ms = ?, cut_tokens = ?, context_full = ? WHERE id = ?').run(
    message.text, JSON.stringify(message.tokens), message.end, message.tokensPerSecond, message.firstTokenMs, message.cutTokens, Number(message.contextFull), message.id,
  )
}

/** Replies whose core died while they were made: what was saved of them stands, as stopped. */
export function endOpenMessages(store: WritableStore): void {
  prepare(store, "UPDATE messages SET ended = 'stopped' WHERE role = 'model' AND ended IS NULL").run()
}

const toChat = (row: ChatRow): Chat => ({
  id: row.id,
  title: row.title,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
  systemPrompt: row.system_prompt,
  sampling: row.sampling === null ? null : readJson<Sampling>(samplingSchema, row.sampling, `chats.sampling of ${row.id}`),
  columns: [
    { checkpointId: row.checkpoint_id, leafId: row.leaf_id },
    ...(row.second_checkpoint_id === null ? [] : [{ checkpointId: row.second_checkpoint_id, leafId: row.second_leaf_id }]),
  ],
})

const toMessage = (row: MessageRow): Message => ({
  id: row.id,
  parentId: row.parent_id,
  role: row.role,
  checkpointId: row.checkpoint_id,
  text: row.text,
  tokens: readJson<Token[]>(tokensSchema, row.tokens, `messages.tokens of ${row.id}`),
  createdAt: row.created_at,
  end: row.ended,
  tokensPerSecond: row.tokens_per_second,
  firstTokenMs: row.first_token_ms,
  seed: row.seed,
  cutTokens: row.cut_tokens,
  contextFull: row.context_full === 1,
})
