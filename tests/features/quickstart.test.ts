/** The quick start as a view of its run: phases, one estimate, stop, restart of the core, start again. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Core } from '#core/main.ts'
import type { QuickstartState } from '#core/shared/quickstart.ts'
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
  expect([...new Set(states.flatMap(({ phase }) => (phase === null ? [] : [phase.phase])))]).toEqual(['sample', 'tokenizer', 'mix', 'train'])
  for (const { status, etaSeconds } of states) expect(etaSeconds === null).toBe(status === 'done')
  expect(states.at(-1)).toMatchObject({ runId: started.runId, checkpointId: `${started.runId}-20`, phase: null, error: null })
  expect(await core.client.runs.list()).toHaveLength(1)
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
