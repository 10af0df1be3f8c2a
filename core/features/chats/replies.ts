/**
 * Replies of a chat: one at a time per column. A reply is stored when it begins, about every second while it grows, and when it ends, however it
 * ends: what was made is kept. Nothing is overwritten: another answer and an edited turn are branches.
 */
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { readChatTemplate } from '#core/formats/chat-template.ts'
import type { ChatEvent, Message, Sampling, Token, WholeChat } from '#core/shared/chats.ts'
import { branchTo } from '#core/shared/chat-tree.ts'
import type { CompletionRequest, ScoredToken } from '#core/shared/completions.ts'
import { AppError } from '#core/shared/errors.ts'
import { findChat, insertMessage, setChatTitle, setLeaf, touchChat, updateMessage } from '#core/store/chats.ts'
import { inTransaction } from '#core/store/open.ts'
import { requireUsable } from '../checkpoints/checkpoints.ts'
import { checkpointsFolder, type Services } from '../services.ts'
import { stopped } from './inference.ts'
import { textOf, titleOf, turnsOf } from './text.ts'

const saveEveryMs = 1000

type Events = AsyncGenerator<ChatEvent, void>
/** A reply to be made: by whom, what came before, what is new. */
type Asked = { chat: WholeChat; column: number; checkpointId: string; before: Message[]; user: Message | null; message: Message; isNew: boolean; sampling: Sampling }

/** Columns with a reply under way, per core (its store stands for it). */
const busyColumns = new WeakMap<Services['store'], Set<string>>()

function busyIn({ store }: Pick<Services, 'store'>): Set<string> {
  let busy = busyColumns.get(store)
  if (busy === undefined) busyColumns.set(store, (busy = new Set()))
  return busy
}

/** Whether a reply is under way in a column of the chat, or in this one. */
export function isBusy(services: Pick<Services, 'store'>, chatId: string, column?: number): boolean {
  const busy = busyIn(services)
  return [0, 1].some((one) => (column ?? one) === one && busy.has(`${chatId}/${one}`))
}

export function throwBusy(id: string): never {
  throw new AppError('chats.busy', `Chat ${id} is being answered`, { params: { id }, hint: 'Wait for the reply to end, or stop it.' })
}

/** The chat with its messages. Throws chats.notFound. */
export function requireChat({ store }: Pick<Services, 'store'>, id: string): WholeChat {
  const chat = findChat(store, id)
  if (chat === null) throw new AppError('chats.notFound', `There is no chat ${id}`, { params: { id }, hint: 'It may have been removed.' })
  return chat
}

/** A message of the chat. Throws chats.noMessage. */
export function requireMessage({ id: chatId, messages }: WholeChat, id: string): Message {
  const message = messages.find((one) => one.id === id)
  if (message === undefined) throw new AppError('chats.noMessage', `Chat ${chatId} has no message ${id}`, { params: { id }, hint: 'Open the chat again.' })
  return message
}

/** The checkpoint of a column that may be answered in now. Throws chats.noColumn, chats.busy, checkpoints.notFound, checkpoints.damaged. */
function requireFree(services: Services, chat: WholeChat, column: number): string {
  const checkpointId = chat.columns[column]?.checkpointId
  if (checkpointId === undefined) throw new AppError('chats.noColumn', `Chat ${chat.id} has no second checkpoint`, { params: { id: chat.id }, hint: 'Choose one to compare with.' })
  if (isBusy(services, chat.id, column)) throwBusy(chat.id)
  requireUsable(services, checkpointId)
  return checkpointId
}

function newMessage({ host }: Services, message: Pick<Message, 'role' | 'text' | 'parentId'> & Partial<Message>): Message {
  return { id: host.newId(), checkpointId: null, tokens: [], createdAt: host.now(), end: null, tokensPerSecond: null, firstTokenMs: null, seed: null, cutTokens: 0, contextFull: false, ...message }
}

/** Adds a turn of the user behind `parentId` and answers it. */
export function say(services: Services, chat: WholeChat, { column, text, parentId }: { column: number; text: string; parentId: string | null }, sampling: Sampling, signal: AbortSignal | undefined): Events {
  const checkpointId = requireFree(services, chat, column)
  const user = newMessage(services, { role: 'user', text, parentId })
  const message = newMessage(services, { role: 'model', text: '', parentId: user.id, checkpointId, seed: sampling.seed ?? randomInt(2 ** 31) })
  return reply(services, { chat, column, checkpointId, before: [...branchTo(chat.messages, parentId), user], user, message, isNew: true, sampling }, signal)
}

/** Answers a turn of the user once more: that one, or the one that this reply is to. Throws chats.empty. */
export function answer(services: Services, chat: WholeChat, { column, messageId }: { column: number; messageId: string | undefined }, sampling: Sampling, signal: AbortSignal | undefined): Events {
  const checkpointId = requireFree(services, chat, column)
  if (messageId === undefined) throw new AppError('chats.empty', `Chat ${chat.id} has no message to answer`, { params: { id: chat.id }, hint: 'Send a message first.' })
  const asked = requireMessage(chat, messageId)
  const before = branchTo(chat.messages, asked.role === 'user' ? asked.id : asked.parentId)
  const message = newMessage(services, { role: 'model', text: '', parentId: before.at(-1)?.id ?? null, checkpointId, seed: sampling.seed ?? randomInt(2 ** 31) })
  return reply(services, { chat, column, checkpointId, before, user: null, message, isNew: true, sampling }, signal)
}

/** Goes on with the reply at the end of the column's branch, by the checkpoint that began it. Throws chats.empty. */
export function goOn(services: Services, chat: WholeChat, column: number, sampling: Sampling, signal: AbortSignal | undefined): Events {
  requireFree(services, chat, column)
  const before = branchTo(chat.messages, chat.columns[column]!.leafId)
  const message = before.at(-1)
  if (message?.role !== 'model') throw new AppError('chats.empty', `Chat ${chat.id} has no reply to go on with`, { params: { id: chat.id }, hint: 'Send a message first.' })
  const checkpointId = message.checkpointId!
  requireUsable(services, checkpointId)
  return reply(services, { chat, column, checkpointId, before, user: null, message: { ...message, end: null }, isNew: false, sampling }, signal)
}

/** What the model is asked after these messages: an adapted one the turns of its template, a base model the text. A chat outgrows the context, so it is cut. */
function requestOf({ host }: Services, { chat, checkpointId, before, message, isNew, sampling: { maxTokens, temperature, topP, seed } }: Asked): CompletionRequest {
  const isAdapted = readChatTemplate(join(checkpointsFolder(host), checkpointId)) !== null
  const prompt = isAdapted ? turnsOf(before, chat.systemPrompt) : { kind: 'text' as const, text: textOf(before) }
  return { prompt, maxTokens, temperature, topP, seed: isNew ? message.seed! : (seed ?? randomInt(2 ** 31)), stop: [], echo: 'none', alternatives: null, routing: true, cutToFit: true }
}

const toToken = ({ id, text, logProbability, layers }: ScoredToken): Token => ({ id, text, probability: Math.exp(logProbability ?? -Infinity), layers })

/** Stores the turn, then streams and stores the reply. */
async function* reply(services: Services, asked: Asked, signal: AbortSignal | undefined): Events {
  const { store, inference } = services
  const { chat, column, checkpointId, user, message } = asked
  const busy = busyIn(services)
  if (isBusy(services, chat.id, column)) throwBusy(chat.id)
  busy.add(`${chat.id}/${column}`)
  try {
    storeTurn(services, asked)
    yield { type: 'start', user, reply: message }
    const beside = chat.columns.map((one) => one.checkpointId)
    yield* grow(services, message, inference.generate(checkpointId, requestOf(services, asked), signal, beside))
    yield { type: 'end', reply: message }
  } catch (error) {
    message.end = 'failed'
    throw error
  } finally {
    message.end ??= 'stopped'
    busy.delete(`${chat.id}/${column}`)
    if (store.open) updateMessage(store, message)
  }
}

/** Adds the tokens of `made` to the message as they come, and passes them on. */
async function* grow({ store }: Services, message: Message, made: ReturnType<Services['inference']['generate']>): Events {
  let savedAt = performance.now()
  const isBegun = message.tokens.length > 0
  try {
    for (;;) {
      const { done, value } = await made.next()
      if (done === true) {
        const { end, tokensPerSecond, firstTokenMs, cutTokens, contextFull } = value
        Object.assign(message, { end, tokensPerSecond, cutTokens, contextFull, ...(!isBegun && { firstTokenMs }) })
        return
      }
      const tokens = value.tokens.map(toToken)
      message.tokens.push(...tokens)
      message.text += value.text
      if (performance.now() - savedAt > saveEveryMs) {
        updateMessage(store, message)
        savedAt = performance.now()
      }
      yield { type: 'tokens', tokens }
    }
  } finally {
    await made.return(stopped)
  }
}

/** Writes what is new of the turn; the column's branch ends with the reply from now on. */
function storeTurn({ store, host }: Services, { chat, column, user, message, isNew, sampling }: Asked): void {
  inTransaction(store, () => {
    if (user !== null) insertMessage(store, chat.id, user)
    if (user !== null && chat.title === '') setChatTitle(store, chat.id, titleOf(user.text))
    if (isNew) insertMessage(store, chat.id, message)
    else updateMessage(store, message)
    setLeaf(store, chat.id, column, message.id)
    touchChat(store, chat.id, host.now(), sampling)
  })
}
