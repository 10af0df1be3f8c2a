/** Chats over a real core: streaming, stopping, regenerating, what is stored, and runners kept warm. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createInferencePool } from '#core/features/chats/inference.ts'
import { excerptOf, hasWords, textOf, titleOf, turnsOf } from '#core/features/chats/text.ts'
import type { Core } from '#core/main.ts'
import { besides, branchTo, leaves } from '#core/shared/chat-tree.ts'
import type { ChatEvent, Message, WholeChat } from '#core/shared/chats.ts'
import { openStore } from '#core/store/open.ts'
import { createLibrary, until, type Library } from './library.ts'
import { recipe } from './recipe.ts'

const sampling = { temperature: 0.8, topP: 0.95, maxTokens: 5, seed: 7 }

async function chatOn(library: Library): Promise<{ core: Core; chat: WholeChat; checkpointId: string }> {
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
  expect((await core.client.chats.list())[0]).toMatchObject({ id: chat.id, sampling, columns: [{ leafId: stored.messages[1]!.id }], match: null })
})

const pidOf = (text: string): string => /\[(\d+)\|/.exec(text)![1]!
const replyOf = (events: ChatEvent[]): string => (events.at(-1) as Extract<ChatEvent, { type: 'end' }>).reply.text

test('the next turn sees the whole chat and finds the model still loaded; another answer stands beside the first', async () => {
  const { core, chat } = await chatOn(createLibrary())
  const first = replyOf(await collect(await core.client.chats.send({ chatId: chat.id, text: 'One', sampling })))
  const second = replyOf(await collect(await core.client.chats.send({ chatId: chat.id, text: 'Two', sampling })))
  expect(pidOf(second)).toBe(pidOf(first))
  expect(second).toContain(`|One${first}\nTwo]`)
  const events = await collect(await core.client.chats.regenerate({ chatId: chat.id, sampling: { ...sampling, seed: null } }))
  expect(events[0]).toMatchObject({ type: 'start', user: null })
  const { messages } = await core.client.chats.get({ id: chat.id })
  expect(messages.map(({ role }) => role)).toEqual(['user', 'model', 'user', 'model', 'model'])
  expect(messages[4]).toMatchObject({ text: second, parentId: messages[2]!.id, seed: expect.any(Number) })
})

const branchOf = async (core: Core, id: string, column = 0): Promise<Message[]> => {
  const { messages, columns } = await core.client.chats.get({ id })
  return branchTo(messages, columns[column]!.leafId)
}
const textsOf = async (core: Core, id: string, column = 0): Promise<string[]> => (await branchOf(core, id, column)).filter(({ role }) => role === 'user').map(({ text }) => text)

test('an edited turn is a branch that does not see what it replaced; going back finds the first branch whole', async () => {
  const { core, chat } = await chatOn(createLibrary())
  const { client } = core
  const first = replyOf(await collect(await client.chats.send({ chatId: chat.id, text: 'One', sampling })))
  await collect(await client.chats.send({ chatId: chat.id, text: 'Two', sampling }))
  await collect(await client.chats.send({ chatId: chat.id, text: 'Three', sampling }))
  const before = await branchOf(core, chat.id)
  const edited = replyOf(await collect(await client.chats.send({ chatId: chat.id, parentId: before[2]!.parentId, text: 'Deux', sampling })))
  expect(edited).toContain(`|One${first}\nDeux]`)
  expect(await textsOf(core, chat.id)).toEqual(['One', 'Deux'])
  const { messages } = await client.chats.get({ id: chat.id })
  expect(besides(messages, before[2]!).map(({ text }) => text)).toEqual(['Two', 'Deux'])
  const back = await client.chats.select({ id: chat.id, messageId: before[2]!.id })
  expect(back.columns[0]!.leafId).toBe(before.at(-1)!.id)
  expect(await branchOf(core, chat.id)).toEqual(before)
  await collect(await client.chats.send({ chatId: chat.id, parentId: null, text: 'Anew', sampling }))
  expect(await textsOf(core, chat.id)).toEqual(['Anew'])
  expect(leaves((await client.chats.get({ id: chat.id })).messages)).toHaveLength(3)
  await expect(client.chats.send({ chatId: chat.id, parentId: 'nobody', text: 'X', sampling })).rejects.toMatchObject({ code: 'chats.noMessage' })
  await expect(client.chats.select({ id: chat.id, messageId: 'nobody' })).rejects.toMatchObject({ code: 'chats.noMessage' })
})

test('two checkpoints answer one prompt at the same time, stay loaded, and go on each in its own branch', async () => {
  const library = createLibrary()
  library.script({ tokenMs: 10 })
  const { core, checkpointId } = await chatOn(library)
  const { client } = core
  const [, earlier] = await client.runs.create({ config: recipe({ steps: 5 }) }).then(async ({ id }) => [await until(core, id, 'done'), `${id}-5`] as const)
  const chat = await client.chats.create({ checkpointId, besideId: earlier })
  const both = async (text: string): Promise<string[]> => {
    const events = await client.chats.send({ chatId: chat.id, column: 0, text, sampling })
    const { value } = await events.next()
    const shared = (await client.chats.get({ id: chat.id })).columns[1]!.leafId === null
    const user = (value as Extract<ChatEvent, { type: 'start' }>).user!
    const second = shared ? client.chats.regenerate({ chatId: chat.id, column: 1, messageId: user.id, sampling }) : client.chats.send({ chatId: chat.id, column: 1, text, sampling })
    return (await Promise.all([collect(events), second.then(collect)])).map(replyOf)
  }
  const firsts = await both('Who?')
  const seconds = await both('And?')
  expect(seconds.map(pidOf)).toEqual(firsts.map(pidOf))
  expect(new Set(firsts.map(pidOf)).size).toBe(2)
  const [left, right] = [await branchOf(core, chat.id, 0), await branchOf(core, chat.id, 1)]
  expect(left.map(({ checkpointId: by }) => by)).toEqual([null, checkpointId, null, checkpointId])
  expect(right.map(({ checkpointId: by }) => by)).toEqual([null, earlier, null, earlier])
  expect(right[0]).toEqual(left[0])
  expect(right[3]!.text).toContain(`|Who?${firsts[1]}\nAnd?]`)
  // Going back to the shared turn, each column stays with its own answers.
  for (const column of [0, 1]) expect((await client.chats.select({ id: chat.id, column, messageId: left[0]!.id })).columns[column]!.leafId).toBe([left, right][column]![3]!.id)
  const alone = await client.chats.update({ id: chat.id, checkpointIds: [earlier] })
  expect(alone.columns).toEqual([{ checkpointId: earlier, leafId: left[3]!.id }])
  await expect(client.chats.send({ chatId: chat.id, column: 1, text: 'X', sampling })).rejects.toMatchObject({ code: 'chats.noColumn' })
})

test('a reply that was cut short goes on in place, by the checkpoint that began it', async () => {
  const { core, chat, checkpointId } = await chatOn(createLibrary())
  const begun = replyOf(await collect(await core.client.chats.send({ chatId: chat.id, text: 'One', sampling })))
  const [start, ...rest] = await collect(await core.client.chats.goOn({ chatId: chat.id, sampling }))
  expect(start).toMatchObject({ type: 'start', user: null, reply: { text: begun, end: null } })
  const whole = (await branchOf(core, chat.id))[1]!
  expect(rest.at(-1)).toEqual({ type: 'end', reply: whole })
  expect(whole).toMatchObject({ checkpointId, end: 'length', text: expect.stringMatching(/ 4\[\d+\|One\[\d+\|One\] 1 2 3 4\] 1 2 3 4$/) })
  expect(whole.tokens).toHaveLength(10)
  const empty = await core.client.chats.create({ checkpointId })
  await expect(core.client.chats.goOn({ chatId: empty.id, sampling })).rejects.toMatchObject({ code: 'chats.empty' })
  await expect(core.client.chats.regenerate({ chatId: empty.id, sampling })).rejects.toMatchObject({ code: 'chats.empty' })
})

test('a system prompt goes before the turns where the model has a template, and title and prompt can be changed', async () => {
  const library = createLibrary()
  const { core, chat, checkpointId } = await chatOn(library)
  expect(await core.client.chats.template({ checkpointId })).toBeNull()
  await core.client.chats.update({ id: chat.id, systemPrompt: 'Be brief.', title: ' Whales ' })
  expect(replyOf(await collect(await core.client.chats.send({ chatId: chat.id, text: 'One', sampling })))).toContain('|One]')
  const template = { name: 'own', start: '{eos}', system: { before: 'S:', after: '\n' }, user: { before: 'U:', after: '\n' }, assistant: { before: 'A:', after: '{eos}' }, trimEnd: true }
  const path = join(library.path, 'checkpoints', checkpointId, 'chat_template.json')
  writeFileSync(path, JSON.stringify(template))
  expect(await core.client.chats.template({ checkpointId })).toEqual({ name: 'own', hasSystem: true })
  const events = await collect(await core.client.chats.regenerate({ chatId: chat.id, sampling }))
  expect(replyOf(events)).toContain('"turns":[{"role":"system","content":"Be brief."},{"role":"user","content":"One"}]')
  writeFileSync(path, JSON.stringify({ ...template, system: { before: '', after: '' } }))
  expect(await core.client.chats.template({ checkpointId })).toEqual({ name: 'own', hasSystem: false })
  expect((await core.client.chats.list())[0]).toMatchObject({ title: 'Whales', systemPrompt: 'Be brief.' })
})

test('chats are found by title and by what was said, in any script and case, and listed by when they were written in', async () => {
  const { core, checkpointId } = await chatOn(createLibrary())
  const { client } = core
  const make = async (title: string, text: string): Promise<string> => {
    const { id } = await client.chats.create({ checkpointId })
    await client.chats.update({ id, title })
    await collect(await client.chats.send({ chatId: id, text, sampling: { ...sampling, maxTokens: 1 } }))
    return id
  }
  const [whales, chinese, percent] = [await make('Big animals', 'The Blue Whale eats krill, tons of it'), await make('Ünïcode', '专家模型怎样选择路由？'), await make('Shares', 'it is 100% of a_b and "more"')]
  const found = async (query: string): Promise<string[]> => (await client.chats.list({ query })).map(({ id }) => id)
  expect((await found('whale BLUE')).slice().sort()).toEqual([whales])
  expect((await client.chats.list({ query: 'krill' }))[0]!.match!.excerpt).toMatch(/^….*The Blue Whale eats krill, tons of it.?$/)
  expect((await client.chats.list({ query: 'animals' }))[0]!.match).toBeNull()
  for (const query of ['ÜNÏ', '模型', '专家模型', '路由？']) expect(await found(query), query).toEqual([chinese])
  for (const query of ['100%', 'a_b', '"more"', '% of']) expect(await found(query), query).toEqual([percent])
  for (const query of ['blue krillx', '1__%', 'blue OR krillx', 'NEAR(']) expect(await found(query), query).toEqual([])
  expect((await client.chats.list()).map(({ id }) => id).slice(0, 3)).toEqual([percent, chinese, whales])
  await collect(await client.chats.send({ chatId: whales, text: 'again', sampling }))
  expect((await client.chats.list())[0]!.id).toBe(whales)
  await client.chats.remove({ id: whales })
  expect(await found('krill')).toEqual([])
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

test('prompts, titles and excerpts', () => {
  const said = [{ role: 'user', text: 'The' }, { role: 'model', text: ' cat' }, { role: 'user', text: 'A' }] as const
  expect(textOf(said)).toBe('The cat\nA')
  expect(turnsOf(said, '')).toEqual({ kind: 'turns', turns: [{ role: 'user', content: 'The' }, { role: 'assistant', content: ' cat' }, { role: 'user', content: 'A' }] })
  expect(turnsOf(said.slice(0, 2), 'S')).toEqual({ kind: 'turns', turns: [{ role: 'system', content: 'S' }, { role: 'user', content: 'The' }], begun: ' cat' })
  expect(hasWords('Straße İstanbul', ['straß', 'İST'])).toBe(true)
  expect(excerptOf(`${'😀'.repeat(40)} whale`, ['WHALE'])).toBe('…😀😀😀😀😀😀😀😀😀😀😀 whale')
  expect(titleOf('  Tell me\n about whales ')).toBe('Tell me about whales')
  expect(titleOf('word '.repeat(30))).toBe('word word word word word word word word word…')
  expect([...titleOf('长'.repeat(100))].length).toBe(48)
})
