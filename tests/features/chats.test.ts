/** Chats over a real core: streaming, stopping, regenerating, what is stored, and runners kept warm. */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createInferencePool } from '#core/features/chats/inference.ts'
import { promptOf, titleOf } from '#core/features/chats/text.ts'
import type { Core } from '#core/main.ts'
import type { Chat, ChatEvent } from '#core/shared/chats.ts'
import { openStore } from '#core/store/open.ts'
import { createLibrary, until, type Library } from './library.ts'
import { recipe } from './recipe.ts'

const sampling = { temperature: 0.8, topP: 0.95, maxTokens: 5, seed: 7 }

async function chatOn(library: Library): Promise<{ core: Core; chat: Chat; checkpointId: string }> {
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 5 }) })
  await until(core, id, 'done')
  const checkpointId = `${id}-5`
  return { core, checkpointId, chat: await core.client.chats.create({ checkpointId }) }
}

async function collect(events: AsyncIterable<ChatEvent>): Promise<ChatEvent[]> {
  const all: ChatEvent[] = []
  for await (const event of events) all.push(event)
  return all
}

test('a reply streams token by token and is stored with its figures', async () => {
  const { core, chat } = await chatOn(createLibrary())
  const events = await collect(await core.client.chats.send({ chatId: chat.id, text: 'Once upon', sampling }))
  expect(events[0]).toMatchObject({ type: 'start', user: { role: 'user', text: 'Once upon' }, reply: { role: 'model', text: '', end: null, seed: 7 } })
  expect(events.flatMap((event) => (event.type === 'tokens' ? event.tokens.map(({ id }) => id) : []))).toEqual([0, 1, 2, 3, 4])
  const last = events.at(-1)!
  expect(last).toMatchObject({ type: 'end', reply: { end: 'length', tokensPerSecond: 100, firstTokenMs: 1 } })
  const stored = await core.client.chats.get({ id: chat.id })
  expect(stored.title).toBe('Once upon')
  expect(stored.messages.map(({ role }) => role)).toEqual(['user', 'model'])
  expect(stored.messages[1]).toEqual(last.type === 'end' && last.reply)
  expect(stored.messages[1]!.tokens[0]!.layers).toEqual([{ experts: [0, 1], weights: [0.6, 0.4] }])
  expect((await core.client.chats.list())[0]).toMatchObject({ id: chat.id, messages: [] })
})

const pidOf = (text: string): string => /\[(\d+)\|/.exec(text)![1]!
const replyOf = (events: ChatEvent[]): string => (events.at(-1) as Extract<ChatEvent, { type: 'end' }>).reply.text

test('the next turn sees the whole chat and finds the model still loaded; regenerate replaces the last reply', async () => {
  const { core, chat } = await chatOn(createLibrary())
  const first = replyOf(await collect(await core.client.chats.send({ chatId: chat.id, text: 'One', sampling })))
  const second = replyOf(await collect(await core.client.chats.send({ chatId: chat.id, text: 'Two', sampling })))
  expect(pidOf(second)).toBe(pidOf(first))
  expect(second).toContain(`|One${first}\nTwo]`)
  const events = await collect(await core.client.chats.regenerate({ chatId: chat.id, sampling: { ...sampling, seed: null } }))
  expect(events[0]).toMatchObject({ type: 'start', user: null })
  const { messages } = await core.client.chats.get({ id: chat.id })
  expect(messages.map(({ role }) => role)).toEqual(['user', 'model', 'user', 'model'])
  expect(messages[3]!.text).toBe(second)
  expect(messages[3]!.seed).toEqual(expect.any(Number))
})

test.each(['abort', 'leave'] as const)('a reply that is stopped (%s) keeps what was made, and the chat is free again', async (how) => {
  const library = createLibrary()
  library.script({ tokenMs: 15 })
  const { core, chat } = await chatOn(library)
  const stopper = new AbortController()
  const events = await core.client.chats.send({ chatId: chat.id, text: 'Go on', sampling: { ...sampling, maxTokens: 4000 } }, { signal: stopper.signal })
  let tokens = 0
  for await (const event of events) {
    if (event.type === 'tokens') tokens += event.tokens.length
    if (tokens < 3) continue
    if (how === 'leave') break
    stopper.abort()
  }
  const { messages } = await core.client.chats.get({ id: chat.id })
  expect(messages[1]!.end).toBe('stopped')
  expect(messages[1]!.tokens.length).toBeGreaterThanOrEqual(3)
  expect(messages[1]!.tokens.length).toBeLessThan(100)
  // The runner was told: the next reply is not behind 4000 tokens.
  await collect(await core.client.chats.send({ chatId: chat.id, text: 'again', sampling }))
})

test('one reply at a time per chat', async () => {
  const library = createLibrary()
  library.script({ tokenMs: 20 })
  const { core, chat } = await chatOn(library)
  const events = await core.client.chats.send({ chatId: chat.id, text: 'A', sampling })
  await events.next()
  await expect(core.client.chats.send({ chatId: chat.id, text: 'B', sampling })).rejects.toMatchObject({ code: 'chats.busy' })
  await collect(events)
})

test('a model that crashes fails the reply, which says so', async () => {
  const library = createLibrary()
  library.script({ inferCrashes: true })
  const { core, chat } = await chatOn(library)
  const events = await core.client.chats.send({ chatId: chat.id, text: 'A', sampling })
  await expect(collect(events)).rejects.toMatchObject({ code: 'jobs.died', params: { how: 'exit code 9' } })
  expect((await core.client.chats.get({ id: chat.id })).messages[1]).toMatchObject({ end: 'failed', text: '' })
})

test('a chat outlives its checkpoint but gets no reply from it', async () => {
  const { core, chat, checkpointId } = await chatOn(createLibrary())
  await collect(await core.client.chats.send({ chatId: chat.id, text: 'A', sampling }))
  await core.client.checkpoints.remove({ id: checkpointId })
  await expect(core.client.chats.send({ chatId: chat.id, text: 'B', sampling })).rejects.toMatchObject({ code: 'checkpoints.notFound' })
  expect((await core.client.chats.get({ id: chat.id })).messages.length).toBe(2)
  await core.client.chats.remove({ id: chat.id })
  await expect(core.client.chats.get({ id: chat.id })).rejects.toMatchObject({ code: 'chats.notFound' })
})

test('a warm model is let go after its idle time, and when another is asked for', async () => {
  const library = createLibrary()
  const { core, checkpointId } = await chatOn(library)
  await core.close()
  rmSync(join(library.path, 'pid-infer'), { force: true })
  const store = openStore(join(library.path, 'library.sqlite'))
  const pool = createInferencePool({ host: library.host, store }, 50)
  const ask = async (id: string): Promise<string> => {
    let text = ''
    for await (const part of pool.generate(id, { ...sampling, prompt: { kind: 'text', text: '' }, maxTokens: 1, stop: [], echo: 'none', alternatives: null, routing: false, cutToFit: true }, undefined)) text += part.text
    return pidOf(text)
  }
  const first = await ask(checkpointId)
  expect(await ask(checkpointId)).toBe(first)
  await new Promise((resolve) => setTimeout(resolve, 120))
  const second = await ask(checkpointId)
  expect(second).not.toBe(first)
  const other = await ask('other')
  expect(await ask(checkpointId)).not.toBe(second)
  expect(other).not.toBe(second)
  await pool.close()
  await new Promise((resolve) => setTimeout(resolve, 100))
  store.close()
})

test('prompts and titles', () => {
  expect(promptOf([{ role: 'user', text: 'The' }, { role: 'model', text: ' cat' }, { role: 'user', text: 'A' }])).toBe('The cat\nA')
  expect(titleOf('  Tell me\n about whales ')).toBe('Tell me about whales')
  expect(titleOf('word '.repeat(30))).toBe('word word word word word word word word word…')
  expect([...titleOf('长'.repeat(100))].length).toBe(48)
})
