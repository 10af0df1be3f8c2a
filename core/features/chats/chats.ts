/**
 * Calls on chats. A reply is stored when it begins, about every second while it grows, and when it ends, however it ends:
 * what was made is kept. One reply at a time per chat.
 */
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { readChatTemplate } from '#core/formats/chat-template.ts'
import type { Chat, ChatEvent, Message, Sampling, Token } from '#core/shared/chats.ts'
import type { CompletionRequest, ScoredToken } from '#core/shared/completions.ts'
import { AppError } from '#core/shared/errors.ts'
import { deleteChat, deleteMessage, findChat, insertChat, insertMessage, listChats, setChatTitle, updateMessage } from '#core/store/chats.ts'
import { api } from '../api.ts'
import { requireCheckpoint, requireUsable } from '../checkpoints/checkpoints.ts'
import { checkpointsFolder, type Services } from '../services.ts'
import { stopped } from './inference.ts'
import { promptOf, titleOf } from './text.ts'

const saveEveryMs = 1000

export const chatsRouter = api.chats.router({
  list: api.chats.list.handler(({ context }) => listChats(context.store)),

  get: api.chats.get.handler(({ input, context }) => requireChat(context, input.id)),

  create: api.chats.create.handler(({ input, context: { store, host } }) => {
    requireCheckpoint({ store }, input.checkpointId)
    const chat = { id: host.newId(), checkpointId: input.checkpointId, title: '', createdAt: host.now() }
    insertChat(store, chat)
    return { ...chat, messages: [] }
  }),

  remove: api.chats.remove.handler(({ input, context }) => {
    requireChat(context, input.id)
    deleteChat(context.store, input.id)
    return {}
  }),

  send: api.chats.send.handler(({ input, context, signal }) => {
    const chat = requireFree(context, input.chatId)
    const user = newMessage(context, { role: 'user', text: input.text })
    return reply(context, chat, user, input.sampling, signal)
  }),

  regenerate: api.chats.regenerate.handler(({ input, context, signal }) => {
    const chat = requireFree(context, input.chatId)
    if (chat.messages.length === 0) throw new AppError('chats.empty', `Chat ${chat.id} has no message to answer`, { params: { id: chat.id }, hint: 'Send a message first.' })
    return reply(context, chat, null, input.sampling, signal)
  }),
})

/** Chats with a reply under way, per core (its store stands for it). */
const busyChats = new WeakMap<Services['store'], Set<string>>()

function busyIn({ store }: Services): Set<string> {
  let busy = busyChats.get(store)
  if (busy === undefined) busyChats.set(store, (busy = new Set()))
  return busy
}

function requireChat({ store }: Services, id: string): Chat {
  const chat = findChat(store, id)
  if (chat === null) throw new AppError('chats.notFound', `There is no chat ${id}`, { params: { id }, hint: 'It may have been removed.' })
  return chat
}

/** The chat, if it may be added to now. Throws chats.notFound, chats.busy, checkpoints.notFound, checkpoints.damaged. */
function requireFree(services: Services, id: string): Chat {
  const chat = requireChat(services, id)
  if (busyIn(services).has(id)) throw new AppError('chats.busy', `Chat ${id} is being answered`, { params: { id }, hint: 'Wait for the reply to end, or stop it.' })
  requireUsable(services, chat.checkpointId)
  return chat
}

function newMessage({ host }: Services, message: Pick<Message, 'role' | 'text'> & Partial<Message>): Message {
  return { id: host.newId(), tokens: [], createdAt: host.now(), end: null, tokensPerSecond: null, firstTokenMs: null, seed: null, ...message }
}

/** What the model is asked after these messages: an adapted one the turns of its template, a base model the text. A chat outgrows the context, so it is cut. */
const requestOf = (messages: readonly Message[], { maxTokens, temperature, topP, seed }: Sampling & { seed: number }, isAdapted: boolean): CompletionRequest => ({
  prompt: isAdapted ? { kind: 'turns', turns: messages.map(({ role, text }) => ({ role: role === 'user' ? 'user' : 'assistant', content: text })) } : { kind: 'text', text: promptOf(messages) }, maxTokens, temperature, topP, seed, stop: [], echo: 'none', alternatives: null, routing: true, cutToFit: true,
})

const toToken = ({ id, text, logProbability, layers }: ScoredToken): Token => ({ id, text, probability: Math.exp(logProbability ?? -Infinity), layers })

/** Stores the turn, then streams and stores the reply. With `user` null the last model message is replaced. */
async function* reply(services: Services, chat: Chat, user: Message | null, sampling: Sampling, signal: AbortSignal | undefined): AsyncGenerator<ChatEvent, void> {
  const { store, inference } = services
  const busy = busyIn(services)
  if (busy.has(chat.id)) throw new AppError('chats.busy', `Chat ${chat.id} is being answered`, { params: { id: chat.id }, hint: 'Wait for the reply to end, or stop it.' })
  busy.add(chat.id)
  const seed = sampling.seed ?? randomInt(2 ** 31)
  const message = newMessage(services, { role: 'model', text: '', seed })
  try {
    const before = storeTurn(services, chat, user, message)
    yield { type: 'start', user, reply: message }
    const made = inference.generate(chat.checkpointId, requestOf(before, { ...sampling, seed }, readChatTemplate(join(checkpointsFolder(services.host), chat.checkpointId)) !== null), signal)
    yield* grow(services, message, made)
    yield { type: 'end', reply: message }
  } catch (error) {
    message.end = 'failed'
    throw error
  } finally {
    message.end ??= 'stopped'
    busy.delete(chat.id)
    if (store.open) updateMessage(store, message)
  }
}

/** Adds the tokens of `made` to the message as they come, and passes them on. */
async function* grow({ store }: Services, message: Message, made: ReturnType<Services['inference']['generate']>): AsyncGenerator<ChatEvent, void> {
  let savedAt = performance.now()
  try {
    for (;;) {
      const { done, value } = await made.next()
      if (done === true) {
        Object.assign(message, { end: value.end, tokensPerSecond: value.tokensPerSecond, firstTokenMs: value.firstTokenMs })
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

/** Writes the new user message (or takes the last model message away) and the empty reply; gives the messages before the reply. */
function storeTurn({ store }: Services, chat: Chat, user: Message | null, message: Message): Message[] {
  const before = [...chat.messages]
  if (user !== null) {
    insertMessage(store, chat.id, user)
    before.push(user)
    if (chat.title === '') setChatTitle(store, chat.id, titleOf(user.text))
  } else if (before.at(-1)?.role === 'model') {
    deleteMessage(store, before.pop()!.id)
  }
  insertMessage(store, chat.id, message)
  return before
}
