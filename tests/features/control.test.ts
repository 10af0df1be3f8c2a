/** What can be done to a run under way, over a real core and scripted runners: changes, roll back, alerts, samples, the queue, stages, lineage. */
import { expect, test } from 'vitest'
import type { Core } from '#core/main.ts'
import type { Alert } from '#core/shared/alerts.ts'
import { runConfigSchema } from '#core/shared/runs.ts'
import { createLibrary, series, until, untilRun, upTo } from './library.ts'
import { recipe } from './recipe.ts'

const control = (change: object) => ({ ...recipe().control, ...change })
const kinds = (alerts: Alert[]): string[] => alerts.map(({ kind }) => kind)

test('a learning rate is changed and a stop set while it trains; both are in the recipe and in the record', async () => {
  const library = createLibrary()
  library.script({ stepMs: 15 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 1000, checkpointEverySteps: 0 }) })
  await untilRun(core, id, ({ step }) => step >= 3)
  await core.client.runs.change({ id, change: { kind: 'learningRate', factor: 0.5 } })
  await untilRun(core, id, ({ config }) => config.control.learningRateChanges.length === 1)
  await core.client.runs.change({ id, change: { kind: 'stopAt', step: 20 } })
  const done = await until(core, id, 'done')
  expect(done).toMatchObject({ step: 20, config: { steps: 20, optimizer: { scheduleSteps: 1000 } } })
  const { fromStep } = done.config.control.learningRateChanges[0]!
  const { steps, values } = await series(core, id, 'learningRate')
  expect(values).toEqual(steps.map((step) => (step < fromStep ? 1e-3 : 0.5e-3)))
  expect((await core.client.runs.interventions({ id })).map(({ what }) => what)).toEqual([{ kind: 'learningRate', factor: 0.5 }, { kind: 'stopAt', step: 20 }])
  await expect(core.client.runs.change({ id, change: { kind: 'stopAt', step: 30 } })).rejects.toMatchObject({ code: 'runs.notChangeable' })
})

test('a bad batch is skipped: back to a checkpoint, on without its data, and the recipe says so', async () => {
  const library = createLibrary()
  library.script({ stepMs: 2 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 20, keepCheckpoints: 9 }) })
  await until(core, id, 'done')
  await expect(core.client.runs.rollBack({ id, checkpointId: `${id}-10`, skip: { step: 10, steps: 1 } })).rejects.toMatchObject({ code: 'runs.skipBeforeStart' })
  await core.client.runs.rollBack({ id, checkpointId: `${id}-5`, skip: { step: 8, steps: 2 } })
  const again = await until(core, id, 'done')
  // Step 8 began at instance (8 − 1)·4; two steps of 4 are passed over.
  expect(again.config.control.skips).toEqual([{ position: 28, instances: 8 }])
  expect((await series(core, id)).steps).toEqual(upTo(20))
  expect((await core.client.runs.interventions({ id })).map(({ step, what }) => [step, what])).toEqual([
    [6, { kind: 'rollBack', fromStep: 20, skippedStep: 8, skippedSteps: 2, removedCheckpoints: 3 }],
  ])
  // A second skip of the same step takes the data that came in its place.
  await core.client.runs.rollBack({ id, checkpointId: `${id}-5`, skip: { step: 8, steps: 1 } })
  expect((await until(core, id, 'done')).config.control.skips).toEqual([{ position: 28, instances: 8 }, { position: 36, instances: 4 }])
})

test('a running run is rolled back too, but not over a checkpoint that another run starts from', async () => {
  const library = createLibrary()
  library.script({ stepMs: 15 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 400, keepCheckpoints: 9 }) })
  await untilRun(core, id, ({ resumableStep }) => (resumableStep ?? 0) >= 10)
  const fork = await core.client.runs.create({ config: await core.client.runs.recipeFrom({ checkpointId: `${id}-10`, stage: 'fork' }) })
  expect(fork).toMatchObject({ status: 'queued', config: { stage: 'fork', startFrom: { checkpointId: `${id}-10`, optimizer: true } } })
  await expect(core.client.runs.rollBack({ id, checkpointId: `${id}-5`, skip: null })).rejects.toMatchObject({ code: 'runs.hasDependants', params: { count: 1 } })
  await expect(core.client.runs.rollBack({ id, checkpointId: 'none', skip: null })).rejects.toMatchObject({ code: 'checkpoints.notFound' })
  expect(await core.client.runs.dependants({ id })).toEqual([{ id: fork.id, name: fork.name, checkpointId: `${id}-10` }])
  await core.client.runs.stop({ id: fork.id, save: true })
  await core.client.runs.remove({ id: fork.id, checkpoints: true })
  const back = await core.client.runs.rollBack({ id, checkpointId: `${id}-5`, skip: null })
  expect(back).toMatchObject({ status: 'running', step: 5 })
})

test('spikes are told once, kept, and dismissed; a pause at a value that is not finite is no failure', async () => {
  const library = createLibrary()
  library.script({ stepMs: 1, spikeAtStep: 40 })
  const core = await library.start()
  const first = await core.client.runs.create({ config: recipe({ steps: 60 }) })
  const run = await until(core, first.id, 'done')
  expect(run.openAlerts).toBe(1)
  const [spike, ...others] = await core.client.runs.alerts({ id: run.id })
  expect(others).toEqual([])
  expect(spike).toMatchObject({ kind: 'lossSpike', step: 40, dismissed: false })
  expect(spike!.value! - spike!.expected!).toBeGreaterThan(30)
  expect((await core.client.runs.dismissAlerts({ id: run.id, alertIds: [spike!.id] })).openAlerts).toBe(0)
  expect(await core.client.runs.alerts({ id: run.id })).toMatchObject([{ dismissed: true }])

  library.script({ failAtStep: 7, failWith: { code: 'train.notFinite', message: 'step 8: loss is NaN', params: { step: 8, field: 'loss', found: 'NaN' }, hint: '' } })
  const strict = await core.client.runs.create({ config: recipe() })
  expect(await until(core, strict.id, 'failed', 'stopped')).toMatchObject({ status: 'failed', openAlerts: 1 })
  const paused = await core.client.runs.create({ config: recipe({ control: control({ pauseOnNotFinite: true }) }) })
  expect(await until(core, paused.id, 'failed', 'stopped')).toMatchObject({ status: 'stopped', error: null, resumableStep: 5, openAlerts: 1 })
  expect(kinds(await core.client.runs.alerts({ id: paused.id }))).toEqual(['notFinite'])
})

test('samples are kept by checkpoint and go with what a rewind voids', async () => {
  const library = createLibrary()
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 10, control: control({ prompts: ['Once', 'The'] }) }) })
  await until(core, id, 'done')
  expect((await core.client.runs.samples({ id })).map(({ step, prompt }) => `${step} ${prompt}`)).toEqual(['10 Once', '10 The', '5 Once', '5 The'])
})

test('the queue is reordered and paused, and outlives the core', async () => {
  const library = createLibrary()
  library.script({ stepMs: 10 })
  const core = await library.start()
  await core.client.runs.pauseQueue({ paused: true })
  const create = async (name: string): Promise<string> => (await core.client.runs.create({ config: recipe({ name, steps: 5 }) })).id
  const [a, b, c] = [await create('a'), await create('b'), await create('c')]
  expect(await core.client.runs.queue()).toEqual({ paused: true, runIds: [a, b, c] })
  expect((await core.client.runs.reorderQueue({ ids: [c, a] })).runIds).toEqual([c, a, b])
  await core.close()
  const again = await library.start()
  expect(await again.client.runs.queue()).toEqual({ paused: true, runIds: [c, a, b] })
  await again.client.runs.stop({ id: a, save: true })
  await again.client.runs.pauseQueue({ paused: false })
  const last = await until(again, b, 'done')
  expect(last.startedAt!).toBeGreaterThanOrEqual((await again.client.runs.get({ id: c })).endedAt!)
  expect((await again.client.runs.get({ id: a })).step).toBe(0)
})

test('notes, tags and the archive stay; the lineage goes from sources to what was forked', async () => {
  const library = createLibrary()
  const core: Core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe() })
  await until(core, id, 'done')
  await core.client.runs.annotate({ id, note: 'baseline', tags: ['paper', 'dense'], archived: true })
  expect(await core.client.runs.get({ id })).toMatchObject({ note: 'baseline', tags: ['paper', 'dense'] })
  expect((await core.client.runs.annotate({ id, archived: false })).archivedAt).toBeNull()
  const anneal = await core.client.runs.recipeFrom({ checkpointId: `${id}-20`, stage: 'anneal' })
  expect(anneal).toMatchObject({ optimizer: { schedule: 'linear', peakLearningRate: 1e-3, minLearningRate: 0 }, dataSeed: 6199 })
  expect(runConfigSchema.parse(anneal)).toEqual(anneal)
  const child = await core.client.runs.create({ config: anneal })
  const { nodes, edges } = await core.client.lineage.graph({ runId: child.id })
  expect(nodes.map(({ key }) => key).sort()).toEqual([`checkpoint:${id}-20`, 'mix:sample-mix', `run:${child.id}`, `run:${id}`, 'source:speeches'].sort())
  expect(edges).toContainEqual({ from: `checkpoint:${id}-20`, to: `run:${child.id}` })
  await expect(core.client.runs.remove({ id, checkpoints: true })).rejects.toMatchObject({ code: 'runs.hasDependants' })
})

test('the estimate names what a recipe costs and what is wrong with it', async () => {
  const library = createLibrary()
  const core = await library.start()
  const good = await core.client.estimates.run({ config: recipe({ steps: 2000, optimizer: { ...recipe().optimizer, warmupSteps: 10 } }) })
  expect(good).toMatchObject({ tokens: 2000 * 64, problems: [], epochs: null })
  // The plan rounds tensors up, no more.
  expect(good.memory!.parts.optimizer / (8 * good.totalParameters)).toBeCloseTo(1, 1)
  expect(good.checkpointBytes).toBe(12 * good.totalParameters)
  const bad = recipe({ mix: 'nothing', loadBalanceWeight: 0, optimizer: { ...recipe().optimizer, warmupSteps: 30 } })
  expect((await core.client.estimates.run({ config: bad })).problems.map(({ code, severity }) => `${severity} ${code}`)).toEqual(['blocks mixMissing', 'odd warmupTooLong', 'odd fewTokens', 'odd noLoadBalance'])
})
