/** The life of runs over a real core and real runner processes (scripted): queue, series, events, stop, resume, failure, removal. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { RunEvent } from '#core/shared/runs.ts'
import { fakeLoss } from './fake-runner.ts'
import { createLibrary, series, until, untilRun, upTo } from './library.ts'
import { recipe } from './recipe.ts'

test('a run builds the sample mix, trains to its end, and is stored', async () => {
  const library = createLibrary()
  const core = await library.start()
  const created = await core.client.runs.create({ config: recipe({ seed: 3 }) })
  expect(created).toMatchObject({ status: 'running', step: 0, mixId: null, resumableStep: null, sparkline: [] })
  const run = await until(core, created.id, 'done')
  expect(run).toMatchObject({ mixId: 'sample-mix', step: 20, tokens: 20 * 64, seconds: 0.2, lastLoss: fakeLoss(3, 20), resumableStep: null, error: null })
  expect(run.sparkline).toEqual(upTo(20).map((step) => fakeLoss(3, step)))
  expect(await series(core, run.id)).toEqual({ steps: upTo(20), values: upTo(20).map((step) => fakeLoss(3, step)) })
  expect((await core.client.mixes.list()).map(({ id }) => id)).toEqual(['sample-mix'])
  expect((await core.client.runs.log({ id: run.id })).map(({ text }) => text)).toEqual(['from step 0', 'Done'])
})

test('expert load is shares per layer, as binary', async () => {
  const library = createLibrary()
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe() })
  await until(core, id, 'done')
  const load = await core.client.runs.expertLoad({ id, maxPoints: 5 })
  expect(load).toMatchObject({ layers: 2, experts: 4, steps: [1, 6, 11, 15, 20] })
  const values = new Float32Array(await load.values.arrayBuffer())
  expect(values.length).toBe(5 * 2 * 4)
  expect([...values.subarray(0, 4)]).toEqual([0.1, 0.2, 0.3, 0.4].map(Math.fround))
})

test('watchers get every step once, in batches, and the state at last', async () => {
  const library = createLibrary()
  library.script({ stepMs: 2 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 100, checkpointEverySteps: 50 }) })
  const events: RunEvent[] = []
  for await (const event of await core.client.runs.watch({ id })) {
    events.push(event)
    if (event.type === 'run' && event.run.status === 'done') break
  }
  expect(events[0]).toMatchObject({ type: 'run' })
  const batches = events.flatMap((event) => (event.type === 'steps' ? [event.steps] : []))
  expect(batches.flat().map(({ step }) => step)).toEqual(upTo(100))
  expect(batches.length).toBeLessThan(50)
  expect(events.filter(({ type }) => type === 'phase').length).toBeGreaterThan(3)
  expect(events.filter(({ type }) => type === 'checkpoint').length).toBe(2)
})

test('one trains at a time, the others wait in order; a queued one can be stopped', async () => {
  const library = createLibrary()
  library.script({ stepMs: 20 })
  const core = await library.start()
  const create = (name: string): Promise<{ id: string; status: string }> => core.client.runs.create({ config: recipe({ name, steps: 5 }) })
  const [first, second, third] = [await create('first'), await create('second'), await create('third')]
  expect([first, second, third].map(({ status }) => status)).toEqual(['running', 'queued', 'queued'])
  expect((await core.client.runs.stop({ id: second.id, save: true })).status).toBe('stopped')
  const done = await until(core, third.id, 'done')
  const before = await core.client.runs.get({ id: first.id })
  expect(before.status).toBe('done')
  expect(done.startedAt!).toBeGreaterThanOrEqual(before.endedAt!)
  expect((await core.client.runs.get({ id: second.id })).step).toBe(0)
})

test('stop and save, then resume: the curve goes on where it was', async () => {
  const library = createLibrary()
  library.script({ stepMs: 15 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 30, seed: 9 }) })
  await untilRun(core, id, ({ step }) => step >= 7)
  expect((await core.client.runs.stop({ id, save: true })).status).toBe('stopping')
  const stopped = await until(core, id, 'stopped')
  expect(stopped.resumableStep).toBe(stopped.step)
  expect(stopped.step).toBeGreaterThanOrEqual(7)
  library.script({})
  await core.client.runs.resume({ id })
  const done = await until(core, id, 'done')
  expect(done.seconds).toBeCloseTo(0.3)
  expect(await series(core, id)).toEqual({ steps: upTo(30), values: upTo(30).map((step) => fakeLoss(9, step)) })
  await expect(core.client.runs.resume({ id })).rejects.toMatchObject({ code: 'runs.notResumable' })
})

test('stop without saving goes back to the last checkpoint on resume, and says so', async () => {
  const library = createLibrary()
  library.script({ stepMs: 60 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 12 }) })
  await untilRun(core, id, ({ step }) => step >= 6)
  await core.client.runs.stop({ id, save: false })
  expect((await until(core, id, 'stopped')).resumableStep).toBe(5)
  library.script({})
  const events: RunEvent[] = []
  const watch = await core.client.runs.watch({ id })
  const first = await watch.next()
  await core.client.runs.resume({ id })
  for await (const event of watch) {
    events.push(event)
    if (event.type === 'run' && event.run.status === 'done') break
  }
  expect(first.value).toMatchObject({ type: 'run', run: { status: 'stopped' } })
  expect(events.find(({ type }) => type === 'rewind')).toEqual({ type: 'rewind', step: 5 })
  expect(events.flatMap((event) => (event.type === 'steps' ? event.steps.map(({ step }) => step) : []))).toEqual([6, 7, 8, 9, 10, 11, 12])
})

test('a runner that does not obey is ended', async () => {
  const library = createLibrary()
  library.script({ stepMs: 15, ignoreStop: true })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 10_000 }) })
  await untilRun(core, id, ({ step }) => step >= 2)
  await core.client.runs.stop({ id, save: false })
  expect((await until(core, id, 'stopped')).error).toBeNull()
})

test('what the runner reports as its failure is the run\'s error; it can be resumed', async () => {
  const library = createLibrary()
  library.script({ failAtStep: 7 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe() })
  const failed = await until(core, id, 'failed')
  expect(failed.error).toEqual({ code: 'engine.outOfMemory', message: 'too big', params: { neededBytes: 1 }, hint: 'smaller' })
  expect(failed.resumableStep).toBe(5)
  library.script({})
  await core.client.runs.resume({ id })
  expect((await until(core, id, 'done')).error).toBeNull()
})

test('a value that is not finite is left out, and the log says so', async () => {
  const library = createLibrary()
  library.script({ notFiniteAtStep: 4 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 6 }) })
  await until(core, id, 'done')
  expect((await series(core, id)).steps).toEqual([1, 2, 3, 5, 6])
  expect((await core.client.runs.log({ id })).map(({ text }) => text)).toContain('Step 4: loss is not a finite number and is not recorded')
})

test('only so many checkpoints are kept, and removing a run frees its files', async () => {
  const library = createLibrary()
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ keepCheckpoints: 2 }) })
  await until(core, id, 'done')
  const checkpoints = await core.client.checkpoints.list({ runId: id })
  expect(checkpoints.map(({ step }) => step)).toEqual([20, 15])
  expect(readdirSync(join(library.path, 'checkpoints')).sort()).toEqual([`${id}-15`, `${id}-20`])
  await expect(core.client.runs.remove({ id, checkpoints: false })).rejects.toMatchObject({ code: 'runs.hasCheckpoints', params: { count: 2 } })
  const { freedBytes } = await core.client.runs.remove({ id, checkpoints: true })
  expect(freedBytes).toBe(checkpoints[0]!.sizeBytes + checkpoints[1]!.sizeBytes)
  expect(readdirSync(join(library.path, 'checkpoints'))).toEqual([])
  expect(await core.client.runs.list()).toEqual([])
})

test('an active run is not removed; an unknown mix and too small a vocabulary are refused', async () => {
  const library = createLibrary()
  library.script({ stepMs: 20 })
  const core = await library.start()
  await expect(core.client.runs.create({ config: recipe({ mix: 'no-such' }) })).rejects.toMatchObject({ code: 'mixes.notFound', params: { id: 'no-such' } })
  const { id } = await core.client.runs.create({ config: recipe() })
  await expect(core.client.runs.remove({ id, checkpoints: true })).rejects.toMatchObject({ code: 'runs.active' })
  await untilRun(core, id, ({ mixId }) => mixId !== null)
  const small = recipe({ mix: 'sample-mix', model: { ...recipe().model, vocab_size: 100 } })
  await expect(core.client.runs.create({ config: small })).rejects.toMatchObject({ code: 'runs.vocabularyTooSmall', params: { found: 100, expected: 256 } })
})

test('closing the core saves what trains and releases the library', async () => {
  const library = createLibrary()
  library.script({ stepMs: 15 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 1000 }) })
  const queued = await core.client.runs.create({ config: recipe() })
  await untilRun(core, id, ({ step }) => step >= 7)
  await core.close()
  expect(existsSync(join(library.path, 'library.lock'))).toBe(false)
  const again = await library.start()
  const stopped = await again.client.runs.get({ id })
  expect(stopped.status).toBe('stopped')
  expect(stopped.resumableStep).toBe(stopped.step)
  // What waited goes on waiting, and now it is its turn.
  expect((await until(again, queued.id, 'running', 'done')).id).toBe(queued.id)
})
