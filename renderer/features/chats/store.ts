/**
 * Chats: the list with its search, and the open one with its tree of messages, of which each column shows a branch. One reply per column may be
 * streaming: its tokens are appended to a plain array whose `version` changes at most once per batch, so that a long reply costs what is new.
 */
import { defineStore } from 'pinia'
import { computed, markRaw, ref, shallowReactive } from 'vue'
import type { Chat, ChatEntry, ChatEvent, Message, Sampling, Token } from '#core/shared/chats.ts'
import { branchTo } from '#core/shared/chat-tree.ts'
import { told } from '#renderer/features/runs/store.ts'
import { api, errorData } from '#renderer/client.ts'
import { notifyError } from '#renderer/shell/notify.ts'

/** A message on the page; `tokens` grows in place while it streams, since `from` of them and that time. */
export type ShownMessage = Omit<Message, 'tokens'> & { tokens: Token[]; version: number; growing: { from: number; sinceMs: number } | null }

const shown = (message: Message): ShownMessage => shallowReactive({ ...message, tokens: markRaw([...message.tokens]), version: 0, growing: null })

type Call = (chatId: string, signal: AbortSignal) => Promise<AsyncIterable<ChatEvent>>

export const useChats = defineStore('chats', () => {
  const list = ref<ChatEntry[]>([])
  const loaded = ref(false)
  const query = ref('')
  const current = ref<Chat | null>(null)
  const messages = ref<ShownMessage[]>([])
  /** By column: a request is under way, with or without a first token; the reply that it grows. */
  const waiting = ref([false, false])
  const streamingIds = ref<(string | null)[]>([null, null])
  const stoppers: (AbortController | null)[] = [null, null]
  const isWaiting = computed(() => waiting.value.some(Boolean))
  const branches = computed(() => (current.value?.columns ?? []).map(({ leafId }) => branchTo(messages.value, leafId)))

  async function loadList(): Promise<void> {
    const asked = query.value
    const found = await told(api.chats.list({ query: asked }))
    if (asked !== query.value) return
    list.value = found
    loaded.value = true
  }

  async function open(id: string): Promise<void> {
    if (current.value?.id === id) return
    stop()
    const { messages: all, ...chat } = await told(api.chats.get({ id }))
    current.value = chat
    messages.value = all.map(shown)
  }

  function close(): void {
    stop()
    current.value = null
    messages.value = []
  }

  async function create(checkpointIds: readonly string[], systemPrompt: string): Promise<string> {
    const { id } = await told(api.chats.create({ checkpointId: checkpointIds[0]!, besideId: checkpointIds[1] ?? null, systemPrompt }))
    await open(id)
    await loadList()
    return id
  }

  async function remove(id: string): Promise<void> {
    if (current.value?.id === id) stop()
    await told(api.chats.remove({ id }))
    list.value = list.value.filter((chat) => chat.id !== id)
    if (current.value?.id === id) close()
  }

  async function update(id: string, change: { title?: string; systemPrompt?: string; checkpointIds?: string[] }): Promise<void> {
    const chat = await told(api.chats.update({ id, ...change }))
    if (current.value?.id === id) current.value = chat
    list.value = list.value.map((entry) => (entry.id === id ? { ...entry, ...chat } : entry))
  }

  /** Shows the branch through that message in a column. */
  async function select(column: number, messageId: string): Promise<void> {
    if (current.value) current.value = await told(api.chats.select({ id: current.value.id, column, messageId }))
  }

  /** Says the text in every column, each behind its own branch. False when it was refused. */
  const send = (text: string, sampling: Sampling) => say(current.value!.columns.map(({ leafId }) => leafId), text, sampling)

  /** Says a turn anew in a branch beside it, in the other column too where the same was said at the same place. */
  function edit(message: Message | ShownMessage, text: string, sampling: Sampling): Promise<boolean> {
    const at = branches.value.flatMap((branch) => branch.findIndex(({ id }) => id === message.id)).find((index) => index >= 0) ?? 0
    const parents = branches.value.map((branch) => {
      const same = branch[at]
      return same?.role === 'user' && same.text === message.text ? same.parentId : undefined
    })
    return say(parents, text, sampling)
  }

  /** Says the text behind a message per column (undefined: not in that one). A turn that both share is said once and answered by each. */
  async function say(parents: (string | null | undefined)[], text: string, sampling: Sampling): Promise<boolean> {
    const seeded = parents.length > 1 ? { ...sampling, seed: sampling.seed ?? Math.floor(Math.random() * 2 ** 31) } : sampling
    const sayIn = (column: number, onStart?: (user: Message) => void) => stream(column, (chatId, signal) => api.chats.send({ chatId, column, parentId: parents[column]!, text, sampling: seeded }, { signal }), onStart)
    if (parents.length > 1 && parents[0] !== undefined && parents[0] === parents[1]) {
      let second = Promise.resolve(true)
      const first = await sayIn(0, (user) => (second = regenerate(1, seeded, user.id)))
      return (await second) && first
    }
    const all = await Promise.all(parents.flatMap((parent, column) => (parent === undefined ? [] : [sayIn(column)])))
    return all.every(Boolean)
  }

  const regenerate = (column: number, sampling: Sampling, messageId?: string) => stream(column, (chatId, signal) => api.chats.regenerate({ chatId, column, messageId, sampling }, { signal }))
  const goOn = (column: number, sampling: Sampling) => stream(column, (chatId, signal) => api.chats.goOn({ chatId, column, sampling }, { signal }))

  async function stream(column: number, call: Call, onStart?: (user: Message) => void): Promise<boolean> {
    const chat = current.value
    if (!chat || waiting.value[column]) return false
    const mine = new AbortController()
    stoppers[column] = mine
    waiting.value[column] = true
    try {
      for await (const event of await call(chat.id, mine.signal)) {
        if (current.value?.id !== chat.id) continue
        apply(column, event)
        if (event.type === 'start' && event.user) onStart?.(event.user)
      }
      return true
    } catch (error) {
      if (mine.signal.aborted) return true
      notifyError(errorData(error))
      return false
    } finally {
      if (stoppers[column] === mine) stoppers[column] = null
      waiting.value[column] = false
      streamingIds.value[column] = null
      await settle(chat.id)
    }
  }

  function apply(column: number, event: ChatEvent): void {
    if (event.type === 'start') {
      if (event.user) messages.value.push(shown(event.user))
      const known = messages.value.find(({ id }) => id === event.reply.id)
      const { tokens, ...rest } = event.reply
      if (known) Object.assign(known, rest)
      else messages.value.push(shown(event.reply))
      current.value!.columns[column]!.leafId = event.reply.id
      streamingIds.value[column] = event.reply.id
      messages.value.find(({ id }) => id === event.reply.id)!.growing = { from: tokens.length, sinceMs: 0 }
      return
    }
    const reply = messages.value.find(({ id }) => id === streamingIds.value[column])
    if (!reply) return
    if (event.type === 'tokens') grow(reply, event.tokens)
    else {
      const { tokens, ...end } = event.reply
      Object.assign(reply, end, { growing: null })
      if (tokens.length !== reply.tokens.length) reply.tokens = markRaw([...tokens])
      reply.version++
    }
  }

  function grow(reply: ShownMessage, tokens: Token[]): void {
    const now = performance.now()
    reply.tokens.push(...tokens)
    reply.text += tokens.map(({ text }) => text).join('')
    if (reply.growing!.sinceMs === 0) reply.growing = { from: reply.tokens.length, sinceMs: now }
    else reply.tokensPerSecond = (1000 * (reply.tokens.length - reply.growing!.from)) / (now - reply.growing!.sinceMs)
    reply.version++
  }

  /** What the core kept is what counts: after a stop the page may be a token ahead or behind. */
  async function settle(id: string): Promise<void> {
    if (isWaiting.value) return
    const whole = await api.chats.get({ id }).catch(() => null)
    if (!whole || current.value?.id !== id || isWaiting.value) return
    const { messages: all, ...chat } = whole
    current.value = chat
    const known = new Map(messages.value.map((message) => [message.id, message]))
    messages.value = all.map((message) => {
      const old = known.get(message.id)
      return old && old.tokens.length === message.tokens.length ? Object.assign(old, { ...message, tokens: old.tokens, growing: null }) : shown(message)
    })
    await loadList().catch(() => {})
  }

  function stop(): void {
    for (const stopper of stoppers) stopper?.abort()
  }

  return { list, loaded, query, current, messages, branches, streamingIds, waiting, isWaiting, loadList, open, close, create, remove, update, select, send, edit, regenerate, goOn, stop }
})
