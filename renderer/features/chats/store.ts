/**
 * Chats and the one reply that may be streaming. Tokens are appended to a plain array whose `version` changes at most
 * once per frame, so that a long reply costs the page what is new and not what is there.
 */
import { defineStore } from 'pinia'
import { computed, markRaw, ref, shallowReactive } from 'vue'
import type { Chat, ChatEvent, Message, Sampling, Token } from '#core/shared/chats.ts'
import { told } from '#renderer/features/runs/store.ts'
import { api, errorData } from '#renderer/client.ts'
import { notifyError } from '#renderer/shell/notify.ts'

/** A message on the page; `tokens` grows in place while it streams. */
export type ShownMessage = Omit<Message, 'tokens'> & { tokens: Token[]; version: number }

const shown = (message: Message): ShownMessage => shallowReactive({ ...message, tokens: markRaw([...message.tokens]), version: 0 })

export const useChats = defineStore('chats', () => {
  const list = ref<Chat[]>([])
  const loaded = ref(false)
  const current = ref<Omit<Chat, 'messages'> | null>(null)
  const messages = ref<ShownMessage[]>([])
  const streamingId = ref<string | null>(null)
  /** A request is under way, with or without a first token. */
  const waiting = ref(false)
  const streaming = computed(() => messages.value.find(({ id }) => id === streamingId.value) ?? null)
  let stopper: AbortController | null = null

  async function loadList(): Promise<void> {
    list.value = await told(api.chats.list())
    loaded.value = true
  }

  async function open(id: string): Promise<void> {
    if (current.value?.id === id) return
    stop()
    const chat = await told(api.chats.get({ id }))
    current.value = chat
    messages.value = chat.messages.map(shown)
  }

  function close(): void {
    stop()
    current.value = null
    messages.value = []
  }

  async function create(checkpointId: string): Promise<Chat> {
    const chat = await told(api.chats.create({ checkpointId }))
    list.value = [chat, ...list.value]
    return chat
  }

  async function remove(id: string): Promise<void> {
    await told(api.chats.remove({ id }))
    list.value = list.value.filter((chat) => chat.id !== id)
    if (current.value?.id === id) close()
  }

  const send = (text: string, sampling: Sampling) => stream((chatId, signal) => api.chats.send({ chatId, text, sampling }, { signal }))
  const regenerate = (sampling: Sampling) =>
    stream((chatId, signal) => {
      if (messages.value.at(-1)?.role === 'model') messages.value.pop()
      return api.chats.regenerate({ chatId, sampling }, { signal })
    })

  async function stream(call: (chatId: string, signal: AbortSignal) => Promise<AsyncIterable<ChatEvent>>): Promise<boolean> {
    const chat = current.value
    if (!chat || waiting.value) return false
    const mine = new AbortController()
    stopper = mine
    waiting.value = true
    try {
      for await (const event of await call(chat.id, mine.signal)) {
        if (current.value?.id === chat.id) apply(event)
      }
      return true
    } catch (error) {
      if (mine.signal.aborted) return true
      notifyError(errorData(error))
      return false
    } finally {
      if (stopper === mine) stopper = null
      waiting.value = false
      streamingId.value = null
      await settle(chat.id)
    }
  }

  function apply(event: ChatEvent): void {
    if (event.type === 'start') {
      if (event.user) messages.value.push(shown(event.user))
      messages.value.push(shown(event.reply))
      streamingId.value = event.reply.id
      return
    }
    const reply = streaming.value
    if (!reply) return
    if (event.type === 'tokens') {
      reply.tokens.push(...event.tokens)
      reply.text += event.tokens.map(({ text }) => text).join('')
      reply.version++
    } else {
      const { tokens, ...end } = event.reply
      Object.assign(reply, end)
      if (tokens.length !== reply.tokens.length) reply.tokens = markRaw([...tokens])
      reply.version++
    }
  }

  /** What the core kept is what counts: after a stop the page may be a token ahead or behind. */
  async function settle(id: string): Promise<void> {
    const chat = await api.chats.get({ id }).catch(() => null)
    if (!chat || current.value?.id !== id || waiting.value) return
    current.value = chat
    const known = new Map(messages.value.map((message) => [message.id, message]))
    messages.value = chat.messages.map((message) => {
      const old = known.get(message.id)
      return old && old.tokens.length === message.tokens.length ? Object.assign(old, { ...message, tokens: old.tokens }) : shown(message)
    })
    list.value = list.value.map((entry) => (entry.id === id ? { ...entry, title: chat.title } : entry))
  }

  function stop(): void {
    stopper?.abort()
  }

  return { list, loaded, current, messages, streamingId, waiting, loadList, open, close, create, remove, send, regenerate, stop }
})
