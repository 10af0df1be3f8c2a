/** Devices over a real core and scripted runners: listing (and a driver that crashes), measuring, probing beside and before a training, and a run that goes on elsewhere. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Core } from '#core/main.ts'
import type { ProbeEvent } from '#core/shared/devices.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import { readKernelChoices } from '#core/store/devices.ts'
import { openStore } from '#core/store/open.ts'
import { createLibrary, series, until, untilRun, upTo } from './library.ts'
import { recipe } from './recipe.ts'

async function probe(core: Core, config = recipe(), signal?: AbortSignal): Promise<ProbeEvent[]> {
  const events: ProbeEvent[] = []
  for await (const event of await core.client.devices.probe({ config }, { signal })) events.push(event)
  return events
}

const lost: ErrorData = { code: 'device.lost', message: 'The card was reset', params: { adapter: 'Card', reason: 'reset' }, hint: 'Resume.' }

test('the CPU is first, software is named as such, and a list is made once per start until asked again', async () => {
  const library = createLibrary()
  const core = await library.start()
  const { devices, problem } = await core.client.devices.list()
  expect(devices.map(({ id, kind, isSoftware }) => [id, kind, isSoftware])).toEqual([['cpu', 'cpu', false], ['vulkan:Card', 'webgpu', false], ['vulkan:Soft', 'webgpu', true]])
  expect(problem).toBeNull()
  const process = (): string => readFileSync(join(library.path, 'pid-devices'), 'utf8')
  const first = process()
  await core.client.devices.list()
  expect(process()).toBe(first)
  await core.client.devices.list({ refresh: true })
  expect(process()).not.toBe(first)
})

test('a graphics driver that crashes costs its cards, not the core, and is named', async () => {
  const library = createLibrary()
  library.script({ listCrashes: true })
  const core = await library.start()
  const { devices, problem } = await core.client.devices.list()
  expect(devices.map(({ id }) => id)).toEqual(['cpu'])
  expect(problem).toMatchObject({ code: 'devices.crashed', params: { how: 'SIGSEGV' } })
  expect(library.log.join('\n')).toContain('driver: out of its depth')
  library.script({})
  expect((await core.client.devices.list({ refresh: true })).devices).toHaveLength(3)
})

test('a measurement is remembered by device and driver, also after a restart', async () => {
  const library = createLibrary()
  const core = await library.start()
  expect((await core.client.devices.measure({ id: 'vulkan:Card' })).measured).toEqual({ flopsPerSecond: 1e12, bytesPerSecond: 1e11 })
  await core.close()
  const again = await library.start()
  const { devices } = await again.client.devices.list()
  expect(devices.map(({ measured }) => measured?.flopsPerSecond ?? null)).toEqual([null, 1e12, null])
  await expect(again.client.devices.measure({ id: 'vulkan:Gone' })).rejects.toMatchObject({ code: 'devices.notFound', params: { id: 'vulkan:Gone' } })
})

test('kernels that were chosen for a card are given to later jobs', async () => {
  const library = createLibrary()
  const core = await library.start()
  for (const id of ['vulkan:Card', 'vulkan:Soft']) await core.client.devices.measure({ id })
  await core.close()
  const store = openStore(join(library.path, 'library.sqlite'))
  expect(readKernelChoices(store)).toEqual({ 'vulkan:Card after 0': '{"gemm":"tile"}', 'vulkan:Soft after 1': '{"gemm":"tile"}' })
  store.close()
})

test('a probe tells what is needed, then how fast it went, and uses what was measured', async () => {
  const core = await createLibrary().start()
  const config = recipe({ device: 'webgpu', precision: 'mixed', steps: 50 })
  const events = await probe(core, config)
  expect(events.map(({ type }) => type)).toEqual(['phase', 'memory', 'phase', 'result'])
  expect(events[1]).toMatchObject({ memory: { plannedBytes: 1000, bindingLimitBytes: 2 ** 30 } })
  expect(events.at(-1)).toMatchObject({ result: { device: { kind: 'webgpu', precision: 'mixed', flopsPerSecond: 1e12 }, totalSeconds: 5, tokensPerSecond: { median: 640 } } })
  expect(await core.client.runs.list()).toEqual([])
})

test('a recipe that does not fit says so as the last event, with the memory it would need', async () => {
  const library = createLibrary()
  const error: ErrorData = { code: 'backend.tensorTooLarge', message: 'too large', params: { tensor: 'hidden', sizeBytes: 300, limitBytes: 200 }, hint: 'fewer' }
  library.script({ probeFailsWith: error })
  const events = await probe(await library.start())
  expect(events.map(({ type }) => type)).toEqual(['phase', 'memory', 'phase', 'failed'])
  expect(events.at(-1)).toEqual({ type: 'failed', error })
})

test('nothing is measured or probed beside a training, and a training ends a probe', async () => {
  const library = createLibrary()
  library.script({ probeMs: 60_000, stepMs: 20 })
  const core = await library.start()
  const events = await core.client.devices.probe({ config: recipe() })
  for await (const event of events) if (event.type === 'memory') break
  const left = probe(core)
  await expect.poll(() => readFileSync(join(library.path, 'pid-probe'), 'utf8')).toMatch(/\d/)
  const { id } = await core.client.runs.create({ config: recipe({ steps: 200 }) })
  expect((await left).at(-1)).toMatchObject({ type: 'failed', error: { code: expect.stringMatching(/^devices\.(interrupted|busy)$/) } })
  await untilRun(core, id, ({ step }) => step > 0)
  await expect(core.client.devices.probe({ config: recipe() })).rejects.toMatchObject({ code: 'devices.busy' })
  await expect(core.client.devices.measure({ id: 'cpu' })).rejects.toMatchObject({ code: 'devices.busy' })
  await core.client.runs.stop({ id, save: false })
  await until(core, id, 'stopped')
})

test('a probe that nobody reads any more is ended', async () => {
  const library = createLibrary()
  library.script({ probeMs: 60_000 })
  const core = await library.start()
  const stopper = new AbortController()
  for await (const event of await core.client.devices.probe({ config: recipe() }, { signal: stopper.signal })) if (event.type === 'memory') break
  const pid = Number(readFileSync(join(library.path, 'pid-probe'), 'utf8'))
  await expect.poll(() => isAlive(pid), { timeout: 5000 }).toBe(false)
})

test('a run knows what it runs on, with the measured peak', async () => {
  const core = await createLibrary().start()
  const { id } = await core.client.runs.create({ config: recipe({ device: 'webgpu' }) })
  const run = await until(core, id, 'done')
  expect(run.runningOn).toEqual({ kind: 'webgpu', name: 'Card', api: 'vulkan', driver: '1.0', precision: 'float32', isSoftware: false, flopsPerSecond: 1e12 })
})

test('a run whose card was lost goes on on the CPU from its last checkpoint, and its recipe and log say so', async () => {
  const library = createLibrary()
  library.script({ failAtStep: 7, failWith: lost })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ device: 'webgpu', adapter: 'vulkan:Card', precision: 'mixed' }) })
  const failed = await until(core, id, 'failed')
  expect(failed).toMatchObject({ error: lost, resumableStep: 5, runningOn: { kind: 'webgpu' } })
  library.script({})
  const resumed = await core.client.runs.resume({ id, device: 'cpu' })
  expect(resumed.config).toMatchObject({ device: 'cpu', adapter: 'vulkan:Card', precision: 'float32' })
  const done = await until(core, id, 'done')
  expect(done.runningOn).toMatchObject({ kind: 'cpu', name: 'Fake', precision: 'float32' })
  expect((await series(core, id)).steps).toEqual(upTo(20))
  expect((await core.client.runs.log({ id })).map(({ text }) => text)).toContainEqual(expect.stringMatching(/device cpu, before it was webgpu/))
})

test('resumed on its own device, a recipe stays as it is', async () => {
  const library = createLibrary()
  library.script({ failAtStep: 7, failWith: lost })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ device: 'webgpu', precision: 'mixed' }) })
  await until(core, id, 'failed')
  library.script({})
  await core.client.runs.resume({ id, device: 'webgpu' })
  expect((await until(core, id, 'done')).config).toMatchObject({ device: 'webgpu', precision: 'mixed' })
})

test('a precision that there is not is refused by name of the field; mixed is taken on the CPU too', async () => {
  const core = await createLibrary().start()
  const wrong = { ...recipe(), precision: 'half' as 'mixed' }
  await expect(core.client.runs.create({ config: wrong })).rejects.toMatchObject({ code: 'input.invalid', params: { field: 'config.precision' } })
  const run = await core.client.runs.create({ config: { ...recipe(), precision: 'mixed' } })
  expect(run.config.precision).toBe('mixed')
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
