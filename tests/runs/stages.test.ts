/**
 * Every stage that starts from a checkpoint, its runner killed with SIGKILL between two checkpoints: it goes on to the same bits as a run
 * that went through, in every series, in weights and in moments. Real core, real runner processes, real files. Pretraining is in
 * resume.test.ts, adaptation in adaptation.test.ts.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Core } from '#core/main.ts'
import { runConfigSchema, type RunConfig, type Stage } from '#core/shared/runs.ts'
import { curveOf, follow, newestCheckpoint, openCore } from './following.ts'
import { makeTinyLibrary, tinyConfig } from './tiny-library.ts'

const library = makeTinyLibrary()
const [steps, checkpointEverySteps, killAt] = [240, 50, 80]
let core: Core
let killRunner: () => void
const bases: Record<'sparse' | 'dense', string> = { sparse: '', dense: '' }

async function trainBase(config: RunConfig): Promise<string> {
  const { id } = await core.client.runs.create({ config })
  expect((await follow(core, id)).error).toBeNull()
  return newestCheckpoint(core, id)
}

beforeAll(async () => {
  ;({ core, killRunner } = await openCore(library))
  const config = tinyConfig({ steps: 60 })
  bases.sparse = await trainBase(config)
  bases.dense = await trainBase(tinyConfig({ steps: 60, model: { ...config.model, num_experts: 0, num_experts_per_tok: 0, dense_intermediate_size: 24 } }))
})
afterAll(async () => {
  await core.close()
  rmSync(join(library.libraryPath, '..'), { recursive: true, force: true })
})

test.each([
  ['anneal', 'sparse'],
  ['continue', 'sparse'],
  ['fork', 'sparse'],
  ['upcycle', 'dense'],
] as const satisfies [Stage, keyof typeof bases][])('%s', async (stage, base) => {
  const proposal = await core.client.runs.recipeFrom({ checkpointId: bases[base], stage })
  const noise = stage === 'upcycle' ? 0.5 : 0
  const config = runConfigSchema.parse({ ...proposal, steps, checkpointEverySteps, startFrom: { ...proposal.startFrom, noise } })
  const straight = await core.client.runs.create({ config })
  expect((await follow(core, straight.id)).error).toBeNull()
  const expected = await curveOf(core, library, straight.id)
  expect(expected.steps.loss!.at(-1)).toBe(steps)
  expect(expected.values.learningRate!.at(-1)! === 0).toBe(stage === 'anneal')

  const { id } = await core.client.runs.create({ config })
  await follow(core, id, ['done'], (step) => step >= killAt)
  killRunner()
  const killed = await follow(core, id)
  expect(killed.status).toBe('interrupted')
  expect(killed.resumableStep! % checkpointEverySteps).toBe(0)
  expect(killed.resumableStep!).toBeLessThanOrEqual(killed.step)
  await core.client.runs.resume({ id })
  expect((await follow(core, id, ['done', 'failed'])).error).toBeNull()
  expect(await curveOf(core, library, id)).toEqual(expected)
})
