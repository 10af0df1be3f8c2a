/** One router behind every transport: errors, streams, cancelling and binary data arrive the same over a MessagePort and in-process. */
import { MessageChannel } from 'node:worker_threads'
import { createORPCClient } from '@orpc/client'
import { RPCLink } from '@orpc/client/message-port'
import { expect, onTestFinished, test } from 'vitest'
import type { Core, CoreClient } from '#core/main.ts'
import { createLibrary, until } from './library.ts'
import { recipe } from './recipe.ts'

function overPort(core: Core): CoreClient {
  const { port1, port2 } = new MessageChannel()
  onTestFinished(() => port1.close())
  core.connect(port1)
  port1.start()
  port2.start()
  return createORPCClient(new RPCLink({ port: port2 }))
}

test('an error keeps code, message, params and hint on the wire', async () => {
  const client = overPort(await createLibrary().start())
  await expect(client.runs.get({ id: 'nope' })).rejects.toMatchObject({
    code: 'runs.notFound',
    status: 400,
    data: { code: 'runs.notFound', message: 'There is no run nope', params: { id: 'nope' }, hint: expect.stringContaining('removed') },
  })
})

test('a refused input names the field, what was found and what was expected', async () => {
  const client = overPort(await createLibrary().start())
  const config = { ...recipe(), optimizer: { ...recipe().optimizer, peakLearningRate: -1 } }
  await expect(client.runs.create({ config })).rejects.toMatchObject({
    data: { code: 'input.invalid', params: { field: 'config.optimizer.peakLearningRate', found: '-1', expected: expect.stringContaining('>0'), count: 2 } },
  })
  await expect(client.runs.get({ id: '../../etc' })).rejects.toMatchObject({ data: { code: 'input.invalid', params: { field: 'id' } } })
  await expect(client.runs.get(undefined as never)).rejects.toMatchObject({ data: { code: 'input.invalid', params: { field: 'input', found: 'nothing' } } })
})

test('a bug is `internal`: its stack goes to the log, not to the client', async () => {
  const library = createLibrary()
  const core = await library.start()
  const client = overPort(core)
  await core.close()
  const error = await client.runs.list().then(() => null, (thrown: unknown) => thrown)
  expect(error).toMatchObject({ data: { code: 'internal', params: {} } })
  expect(JSON.stringify(error)).not.toContain('at ')
  expect(library.log.find((line) => line.startsWith('error runs.list: TypeError'))).toContain('\n    at ')
})

test('an error inside a stream arrives as one too', async () => {
  const library = createLibrary()
  library.script({ inferCrashes: true })
  const core = await library.start()
  const client = overPort(core)
  const { id } = await client.runs.create({ config: recipe({ steps: 5 }) })
  await until(core, id, 'done')
  const chat = await client.chats.create({ checkpointId: `${id}-5` })
  const read = async (): Promise<void> => {
    for await (const _ of await client.chats.send({ chatId: chat.id, text: 'A', sampling: { temperature: 0, topP: 1, maxTokens: 3, seed: 1 } }));
  }
  await expect(read()).rejects.toMatchObject({ data: { code: 'jobs.died' } })
})

test('binary data and streams pass the port; an aborted stream ends and another can be had', async () => {
  const core = await createLibrary().start()
  const client = overPort(core)
  const { id } = await client.runs.create({ config: recipe() })
  await until(core, id, 'done')
  const { values, steps } = await client.runs.expertLoad({ id, maxPoints: 20 })
  expect((await values.arrayBuffer()).byteLength).toBe(steps.length * 8 * 4)
  for (let i = 0; i < 3; i++) {
    const stopper = new AbortController()
    const stream = await client.runs.watch({ id }, { signal: stopper.signal })
    expect((await stream.next()).value).toMatchObject({ type: 'run', run: { id, status: 'done' } })
    stopper.abort()
    await expect(stream.next()).rejects.toThrow()
  }
})

test('settings: what is given changes, the rest stays, and all of it is there at the next start', async () => {
  const library = createLibrary()
  const core = await library.start()
  expect(await core.client.system.settings()).toEqual({ language: 'system', theme: 'system', views: {} })
  await core.client.system.updateSettings({ theme: 'dark', views: { chart: { smoothing: 0.5 } } })
  expect(await overPort(core).system.updateSettings({ language: 'zh', views: { chat: { temperature: 0 } } })).toEqual({
    language: 'zh',
    theme: 'dark',
    views: { chart: { smoothing: 0.5 }, chat: { temperature: 0 } },
  })
  await core.close()
  expect((await (await library.start()).client.system.settings()).theme).toBe('dark')
})

test('about tells the machine, measured once something asked', async () => {
  const library = createLibrary()
  const core = await library.start()
  const before = await core.client.system.about()
  expect(before).toMatchObject({ version: library.host.version, libraryPath: library.path, host: 'test', peakFlopsPerSecond: null })
  expect(before.libraryBytes).toBeGreaterThan(10_000)
  await expect.poll(async () => (await core.client.system.about()).peakFlopsPerSecond, { timeout: 5000 }).toBe(1e10)
  expect((await core.client.system.about()).cpu).toEqual({ name: 'Fake', cores: 2, isa: 'none' })
})
