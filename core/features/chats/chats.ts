/**
 * Calls on chats: the list and its search, what a chat is made of, and which branch each of its columns is on. Replies are made in replies.ts.
 */
import { join } from 'node:path'
import { readChatTemplate } from '#core/formats/chat-template.ts'
import type { Chat, ChatEntry, WholeChat } from '#core/shared/chats.ts'
import { branchTo, newestEnd } from '#core/shared/chat-tree.ts'
import { deleteChat, findMessages, insertChat, listChats, setChatTitle, setColumns, setLeaf, setSystemPrompt } from '#core/store/chats.ts'
import { inTransaction } from '#core/store/open.ts'
import { api } from '../api.ts'
import { requireCheckpoint } from '../checkpoints/checkpoints.ts'
import { checkpointsFolder, type Services } from '../services.ts'
import { answer, goOn, isBusy, requireChat, requireMessage, say, throwBusy } from './replies.ts'
import { excerptOf, hasWords } from './text.ts'

export const chatsRouter = api.chats.router({
  list: api.chats.list.handler(({ input, context }) => search(context, input?.query ?? '')),

  get: api.chats.get.handler(({ input, context }) => requireChat(context, input.id)),

  create: api.chats.create.handler(({ input, context: { store, host } }) => {
    const columns = [input.checkpointId, ...(input.besideId === null ? [] : [input.besideId])].map((checkpointId) => ({ checkpointId, leafId: null }))
    for (const { checkpointId } of columns) requireCheckpoint({ store }, checkpointId)
    const now = host.now()
    const chat: Chat = { id: host.newId(), title: '', createdAt: now, updatedAt: now, systemPrompt: input.systemPrompt, sampling: null, columns }
    insertChat(store, chat)
    return { ...chat, messages: [] }
  }),

  update: api.chats.update.handler(({ input: { id, title, systemPrompt, checkpointIds }, context }) => {
    const { store } = context
    const { columns } = requireChat(context, id)
    for (const checkpointId of checkpointIds ?? []) requireCheckpoint({ store }, checkpointId)
    if (checkpointIds !== undefined && isBusy(context, id)) throwBusy(id)
    inTransaction(store, () => {
      if (title !== undefined) setChatTitle(store, id, title)
      if (systemPrompt !== undefined) setSystemPrompt(store, id, systemPrompt)
      if (checkpointIds !== undefined) setColumns(store, id, checkpointIds.map((checkpointId, i) => ({ checkpointId, leafId: (columns[i] ?? columns[0]!).leafId })))
    })
    return withoutMessages(requireChat(context, id))
  }),

  select: api.chats.select.handler(({ input: { id, column, messageId }, context }) => {
    const chat = requireChat(context, id)
    if (isBusy(context, id, column)) throwBusy(id)
    requireMessage(chat, messageId)
    setLeaf(context.store, id, column, newestEnd(chat.messages, messageId, (chat.columns[column] ?? chat.columns[0]!).checkpointId))
    return withoutMessages(requireChat(context, id))
  }),

  remove: api.chats.remove.handler(({ input, context }) => {
    requireChat(context, input.id)
    if (isBusy(context, input.id)) throwBusy(input.id)
    deleteChat(context.store, input.id)
    return {}
  }),

  template: api.chats.template.handler(({ input, context }) => {
    requireCheckpoint(context, input.checkpointId)
    const template = readChatTemplate(join(checkpointsFolder(context.host), input.checkpointId))
    return template && { name: template.name, hasSystem: template.system.before !== '' || template.system.after !== '' }
  }),

  send: api.chats.send.handler(({ input, context, signal }) => {
    const chat = requireChat(context, input.chatId)
    const parentId = input.parentId === undefined ? (chat.columns[input.column]?.leafId ?? null) : input.parentId
    if (parentId !== null) requireMessage(chat, parentId)
    return say(context, chat, { column: input.column, text: input.text, parentId }, input.sampling, signal)
  }),

  regenerate: api.chats.regenerate.handler(({ input, context, signal }) => {
    const chat = requireChat(context, input.chatId)
    const messageId = input.messageId ?? branchTo(chat.messages, chat.columns[input.column]?.leafId ?? null).at(-1)?.id
    return answer(context, chat, { column: input.column, messageId }, input.sampling, signal)
  }),

  goOn: api.chats.goOn.handler(({ input, context, signal }) => goOn(context, requireChat(context, input.chatId), input.column, input.sampling, signal)),
})

const withoutMessages = ({ messages: _messages, ...chat }: WholeChat): Chat => chat

/** Chats whose title, or one message, has every word of the query; all of them without one. */
function search({ store }: Services, query: string): ChatEntry[] {
  const words = query.split(/\s+/).filter(Boolean)
  const all = listChats(store)
  if (words.length === 0) return all.map((chat) => ({ ...chat, match: null }))
  const found = new Map(findMessages(store, words).map((message) => [message.chatId, message]))
  return all.flatMap((chat): ChatEntry[] => {
    const message = found.get(chat.id)
    if (hasWords(chat.title, words)) return [{ ...chat, match: null }]
    return message === undefined ? [] : [{ ...chat, match: { messageId: message.messageId, excerpt: excerptOf(message.text, words) } }]
  })
}
