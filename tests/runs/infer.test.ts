/** Chats on the real engine: several that are answered at the same time get what each gets alone, and one that is left lets the others go on. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startCore, type Core } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import type { ChatEvent, Message } from '#core/shared/chats.ts'
import type { FromRunner, ToRunner } from '#core/shared/jobs.ts'
import { makeTinyLibrary, tinyConfig } from './tiny-library.ts'

const places = makeTinyLibrary()
let core: Core
let checkpointId: string

beforeAll(async () => {
  core = await startCore(nodeHost({ kind: 'test', ...places }))
  const { id } = await core.client.runs.create({ config: tinyConfig({ steps: 40 }) })
  while ((await core.client.runs.get({ id })).status !== 'done') await new Promise((resolve) => setTimeout(resolve, 50))
  checkpointId = (await core.client.checkpoints.list({ runId: id }))[0]!.id
}, 60_000)
afterAll(() => core.close())

async function replyOf(events: AsyncIterable<ChatEvent>): Promise<Message> {
  let reply: Message | null = null
  for await (const event of events) if (event.type === 'end') reply = event.reply
  return reply!
}

test('six chats at once, one of which is left, are answered as each is alone', async () => {
  const texts = ['The cat', 'The dog sees', '1 + 1 =', 'The whale follows the horse. The', '7', 'The horse likes']
  const samplings = texts.map((_, i) => ({ temperature: i % 3 === 0 ? 0 : 0.9, topP: 0.9, maxTokens: 10 + 3 * i, seed: i }))
  const chats = await Promise.all(texts.map(() => core.client.chats.create({ checkpointId })))
  const left = await core.client.chats.create({ checkpointId })
  const leave = async (): Promise<void> => {
    for await (const event of await core.client.chats.send({ chatId: left.id, text: 'The dog', sampling: { ...samplings[0]!, maxTokens: 60 } })) if (event.type === 'tokens') break
  }
  const together = texts.map(async (text, i) => replyOf(await core.client.chats.send({ chatId: chats[i]!.id, text, sampling: samplings[i]! })))
  await leave()
  const replies = await Promise.all(together)
  for (const [i, reply] of replies.entries()) {
    expect(reply.end === 'eos' || reply.tokens.length === samplings[i]!.maxTokens).toBe(true)
    const alone = await replyOf(await core.client.chats.regenerate({ chatId: chats[i]!.id, sampling: samplings[i]! }))
    expect({ text: alone.text, ids: alone.tokens.map(({ id }) => id) }).toEqual({ text: reply.text, ids: reply.tokens.map(({ id }) => id) })
    expect(reply.tokens.every(({ layers }) => layers.length === 2 && layers.every(({ experts }) => experts.length === 2))).toBe(true)
  }
}, 30_000)

test('a terminated runner puts its model away, also when that comes right behind the start', async () => {
  for (const waits of [true, false]) {
    const runner = fork(resolve(import.meta.dirname, '../../core/runner.ts'), [], { serialization: 'advanced' })
    const messages: FromRunner[] = []
    const ready = new Promise<void>((done) => runner.on('message', (message: FromRunner) => {
      messages.push(message)
      if (message.type === 'ready') done()
    }))
    const paths = { library: places.libraryPath, resources: places.resourcesPath }
    runner.send({ type: 'start', job: { kind: 'infer', paths, checkpointId } } satisfies ToRunner)
    if (waits) {
      await ready
      runner.kill('SIGTERM')
    } else runner.send({ type: 'stop', save: true } satisfies ToRunner)
    expect(await once(runner, 'exit')).toEqual([0, null])
    expect(messages.at(-1)).toEqual({ type: 'end', outcome: 'stopped' })
  }
}, 30_000)
