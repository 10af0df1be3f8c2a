/** The quick start as a view of its run: phases, one estimate, three runs one after the other, stop, restart of the core, start again. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startCore, type Core } from '#core/main.ts'
import type { QuickstartState } from '#core/shared/quickstart.ts'
import { openStore } from '#core/store/open.ts'
import { writeSetting } from '#core/store/settings.ts'
import { createLibrary } from './library.ts'

async function follow(core: Core, isThere: (state: QuickstartState) => boolean): Promise<QuickstartState[]> {
  const states: QuickstartState[] = []
  for await (const state of await core.client.quickstart.watch()) {
    states.push(state)
    if (isThere(state)) return states
  }
  throw new Error(`never got there: ${JSON.stringify(states.at(-1))}`)
}

test('it goes through its phases to a checkpoint, and starting it twice starts it once', async () => {
  const core = await createLibrary().start()
  expect(await core.client.quickstart.state()).toMatchObject({ status: 'idle', phase: null, runId: null })
  const started = await core.client.quickstart.start()
  expect(started).toMatchObject({ status: 'running', checkpointId: null })
  expect((await core.client.quickstart.start()).runId).toBe(started.runId)
  const states = await follow(core, ({ status }) => status === 'done')
  expect([...new Set(states.flatMap(({ phase }) => (phase === null ? [] : [phase.phase])))]).toEqual(['sample', 'tokenizer', 'mix', 'train', 'sft', 'dpo'])
  for (const { status, etaSeconds } of states) expect(etaSeconds === null).toBe(status === 'done')
  const [base, sft, dpo] = states.at(-1)!.stages
  expect(base).toEqual({ stage: 'base', runId: started.runId, checkpointId: `${started.runId}-20` })
  expect(states.at(-1)).toMatchObject({ runId: dpo!.runId, checkpointId: `${dpo!.runId}-10`, phase: null, error: null })
  expect((await core.client.runs.get({ id: sft!.runId })).config).toMatchObject({ stage: 'sft', startFrom: { checkpointId: base!.checkpointId, optimizer: false } })
  expect((await core.client.runs.get({ id: dpo!.runId })).config).toMatchObject({ stage: 'dpo', startFrom: { checkpointId: sft!.checkpointId, optimizer: false } })
  expect(await core.client.runs.list()).toHaveLength(3)
})

test('asked for the base model it ends there; asked for more, it goes on from it', async () => {
  const core = await createLibrary().start()
  const { runId } = await core.client.quickstart.start({ until: 'base' })
  await follow(core, ({ status }) => status === 'done')
  expect(await core.client.runs.list()).toHaveLength(1)
  expect(await core.client.quickstart.start()).toMatchObject({ status: 'running', stages: [{ runId }, { stage: 'sft' }] })
  const { stages } = (await follow(core, ({ status }) => status === 'done')).at(-1)!
  expect(stages.map(({ stage }) => stage)).toEqual(['base', 'sft', 'dpo'])
  expect(stages[0]!.runId).toBe(runId)
})

test('a later stage that was stopped goes on from its own checkpoint after a restart, and the last one follows by itself', async () => {
  const library = createLibrary()
  const core = await library.start()
  await core.client.quickstart.start({ until: 'base' })
  await follow(core, ({ status }) => status === 'done')
  library.script({ stepMs: 30 })
  await core.client.quickstart.start()
  await follow(core, ({ phase }) => phase?.phase === 'sft' && phase.done >= 6)
  const { runId } = await core.client.quickstart.stop()
  await follow(core, ({ status }) => status === 'stopped')
  await core.close()
  library.script({})
  const again = await library.start()
  expect(await again.client.quickstart.state()).toMatchObject({ status: 'stopped', runId })
  expect((await again.client.quickstart.start()).runId).toBe(runId)
  const { stages } = (await follow(again, ({ status }) => status === 'done')).at(-1)!
  expect(stages).toMatchObject([{ stage: 'base' }, { stage: 'sft', runId, checkpointId: `${runId}-10` }, { stage: 'dpo' }])
})

test('what hinders the next stage is told with the base model kept, and once it is gone the quick start goes on', async () => {
  const library = createLibrary()
  const file = join(library.path, 'resources', 'presets', 'quickstart-sft.json')
  const preset = readFileSync(file)
  writeFileSync(file, '{"stage": "sft", "steps": 0}')
  const core = await library.start()
  const { runId } = await core.client.quickstart.start()
  const failed = (await follow(core, ({ status }) => status === 'failed')).at(-1)!
  expect(failed).toMatchObject({ runId, checkpointId: `${runId}-20`, error: { code: 'quickstart.badRecipe', params: { path: file } } })
  writeFileSync(file, preset)
  await core.client.quickstart.start()
  const { stages } = (await follow(core, ({ status }) => status === 'done')).at(-1)!
  expect(stages.map(({ stage }) => stage)).toEqual(['base', 'sft', 'dpo'])
  expect(stages[0]!.runId).toBe(runId)
})

test('of the commands only the quick start itself begins a stage that is due', async () => {
  const library = createLibrary()
  const core = await library.start()
  await core.client.quickstart.start({ until: 'base' })
  await follow(core, ({ status }) => status === 'done')
  await core.close()
  const store = openStore(join(library.path, 'library.sqlite'))
  writeSetting(store, 'quickstart.stages', { until: 'dpo', runIds: [], error: null })
  store.close()
  const command = await startCore({ ...library.host, kind: 'cli' })
  expect(await command.client.runs.list()).toHaveLength(1)
  await command.close()
  const asked = createLibrary()
  const itself = await startCore({ ...asked.host, kind: 'cli' })
  await itself.client.quickstart.start()
  expect((await follow(itself, ({ status }) => status === 'done')).at(-1)!.stages).toHaveLength(3)
  await itself.close()
  const workbench = await library.start()
  await follow(workbench, ({ status }) => status === 'done')
  expect(await workbench.client.runs.list()).toHaveLength(3)
})

test('stopped in training it goes on from there, also after a restart of the core; done, it begins another', async () => {
  const library = createLibrary()
  library.script({ stepMs: 20 })
  const core = await library.start()
  const { runId } = await core.client.quickstart.start()
  await follow(core, ({ phase }) => phase?.phase === 'train' && phase.done >= 6)
  expect((await core.client.quickstart.stop()).status).toBe('running')
  await follow(core, ({ status }) => status === 'stopped')
  await core.close()
  library.script({})
  const again = await library.start()
  expect(await again.client.quickstart.state()).toMatchObject({ status: 'stopped', runId })
  expect((await again.client.quickstart.start()).runId).toBe(runId)
  await follow(again, ({ status }) => status === 'done')
  expect((await again.client.runs.log({ id: runId! })).some(({ text }) => /^Resumed at step ([6-9]|1\d)$/.test(text))).toBe(true)
  expect((await again.client.quickstart.start()).runId).not.toBe(runId)
})

test('stopped before there is anything to keep, it begins anew', async () => {
  const library = createLibrary()
  library.script({ mixMs: 50 })
  const core = await library.start()
  const { runId } = await core.client.quickstart.start()
  await follow(core, ({ phase }) => phase?.phase === 'tokenizer')
  await core.client.quickstart.stop()
  await follow(core, ({ status }) => status === 'stopped')
  const second = await core.client.quickstart.start()
  expect(second.runId).not.toBe(runId)
})

test('a failure is told with its error', async () => {
  const library = createLibrary()
  library.script({ failAtStep: 2 })
  const core = await library.start()
  await core.client.quickstart.start()
  const states = await follow(core, ({ status }) => status === 'failed')
  expect(states.at(-1)!.error).toMatchObject({ code: 'engine.outOfMemory' })
})

test('a recipe that does not fit is named, field and file', async () => {
  const library = createLibrary()
  const file = join(library.path, 'resources', 'presets', 'quickstart.json')
  writeFileSync(file, '{"steps": 0}')
  const core = await library.start()
  await expect(core.client.quickstart.start()).rejects.toMatchObject({ code: 'quickstart.badRecipe', params: { path: file } })
  rmSync(file)
  await expect(core.client.quickstart.start()).rejects.toMatchObject({ code: 'quickstart.badRecipe' })
})
