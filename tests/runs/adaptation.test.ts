/**
 * SFT, then DPO and KTO from its checkpoint, as runs of a real core: they learn, say so, save the template, and go on bit for bit after being stopped or
 * killed, with the reference log-probabilities that they stored.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Core } from '#core/main.ts'
import type { Run, RunConfig } from '#core/shared/runs.ts'
import { readCheckpoint } from '#core/train/checkpoint.ts'
import { atRest, curveOf, follow, newestCheckpoint, openCore } from './following.ts'
import { makeTinyLibrary, tinyConfig } from './tiny-library.ts'

const places = makeTinyLibrary()
let core: Core
let killRunner: () => void
let base: string
let sft: { run: Run; checkpointId: string }

async function finish(config: RunConfig): Promise<{ run: Run; checkpointId: string }> {
  const { id } = await core.client.runs.create({ config })
  const run = await follow(core, id)
  expect(run.error).toBeNull()
  return { run, checkpointId: await newestCheckpoint(core, id) }
}

const valuesOf = async (id: string, key: string): Promise<number[]> => (await core.client.runs.metrics({ id, keys: [key] }))[0]?.values ?? []

const adapted = (stage: 'sft' | 'dpo' | 'kto', from: string, changes: object = {}, adaptation: object = {}): RunConfig =>
  tinyConfig({
    stage, startFrom: { checkpointId: from, optimizer: false }, sequenceLength: 48, sequencesPerStep: 8, sequencesPerMicroBatch: 4, steps: 1, loadBalanceWeight: 0, routerZWeight: 0,
    optimizer: { peakLearningRate: stage === 'sft' ? 5e-3 : 1e-3, minLearningRate: 0, schedule: 'linear', weightDecay: 0 }, evaluateEverySteps: 20, checkpointEverySteps: 20,
    adaptation: { data: [join(places.resourcesPath, 'pairs.jsonl')], epochs: 6, warmupShare: 0.1, heldOutShare: 0.2, ...adaptation }, ...changes,
  })

beforeAll(async () => {
  mkdirSync(join(places.resourcesPath, 'chat-templates'))
  writeFileSync(join(places.resourcesPath, 'chat-templates/olmoe.json'), readFileSync(join(import.meta.dirname, '../../resources/chat-templates/olmoe.json')))
  const rows = Array.from({ length: 100 }, (_, i) => ({ prompt: `${i}?`, chosen: `${i}!`, rejected: `not ${i}` }))
  writeFileSync(join(places.resourcesPath, 'pairs.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''))
  ;({ core, killRunner } = await openCore(places))
  base = (await finish(tinyConfig({ steps: 40 }))).checkpointId
  sft = await finish(adapted('sft', base))
})
afterAll(async () => {
  await core.close()
  rmSync(join(places.libraryPath, '..'), { recursive: true, force: true })
})

test('SFT: the steps of its passes, warm-up by its share, held-out accuracy, and a model with its template', async () => {
  const { run, checkpointId } = sft
  const losses = await valuesOf(run.id, 'loss')
  expect(losses).toHaveLength(run.config.steps)
  expect(run.config.optimizer.warmupSteps).toBe(Math.round(0.1 * run.config.steps))
  expect(losses.at(-1)!).toBeLessThan(losses[0]! / 2)
  const accuracy = await valuesOf(run.id, 'validation/tokenAccuracy')
  expect(accuracy.at(-1)!).toBeGreaterThan(accuracy[0]!)
  const folder = join(places.libraryPath, 'checkpoints', checkpointId)
  expect(JSON.parse(readFileSync(join(folder, 'chat_template.json'), 'utf8'))).toMatchObject({ name: 'olmoe' })
  expect(readFileSync(join(folder, 'tokenizer_config.json'), 'utf8')).toContain('add_generation_prompt')
  expect(readCheckpoint(folder).manifest).toMatchObject({ mixHash: expect.stringMatching(/^[0-9a-f]{64}$/) })
})

test.each(['dpo', 'kto'] as const)('%s: the loss begins where nothing is preferred, and the wanted answers gain', async (stage) => {
  const { run } = await finish(adapted(stage, sft.checkpointId, {}, { epochs: 4 }))
  const [losses, margins, accuracy] = [await valuesOf(run.id, 'loss'), await valuesOf(run.id, 'rewardMargin'), await valuesOf(run.id, 'validation/rewardAccuracy')]
  expect(losses[0]!).toBeCloseTo(stage === 'dpo' ? Math.LN2 : 0.5, 4)
  expect(losses.at(-1)!).toBeLessThan(losses[0]!)
  expect(margins.at(-1)!).toBeGreaterThan(margins[0]!)
  expect(accuracy.at(-1)!).toBeGreaterThan(0.6)
})

test.each(['sft', 'dpo', 'kto'] as const)('%s goes on bit for bit after a stop and after kill -9', async (stage) => {
  const config = adapted(stage, sft.checkpointId, { steps: 100 }, { epochs: null, packing: stage === 'sft' })
  const straight = await finish(config)
  const expected = await curveOf(core, places, straight.run.id)
  const { id } = await core.client.runs.create({ config })
  await follow(core, id, atRest, (step) => step >= 10)
  await core.client.runs.stop({ id, save: true })
  expect((await follow(core, id)).status).toBe('stopped')
  await core.client.runs.resume({ id })
  await follow(core, id, atRest, (step) => step >= 45)
  killRunner()
  expect((await follow(core, id)).status).toBe('interrupted')
  await core.client.runs.resume({ id })
  expect((await follow(core, id, ['done', 'failed'])).error).toBeNull()
  expect(await curveOf(core, places, id)).toEqual(expected)
  await core.client.runs.remove({ id, checkpoints: true })
  expect(existsSync(join(places.libraryPath, 'adaptations', id))).toBe(false)
})

test('the first batch is shown before anything is trained, and what is wrong with the data ends the run with its place', async () => {
  const { adaptation, sequenceLength } = adapted('dpo', sft.checkpointId)
  const { instances } = await core.client.conversations.preview({ checkpointId: sft.checkpointId, stage: 'dpo', sequenceLength, adaptation: adaptation! })
  expect(instances[3]!.sequences.map((parts) => parts.map(({ text }) => text))).toEqual([['<|endoftext|><|user|>\n3?\n<|assistant|>\n', '3!<|endoftext|>'], ['<|endoftext|><|user|>\n3?\n<|assistant|>\n', 'not 3<|endoftext|>']])
  expect((await core.client.conversations.templates()).map(({ name }) => name)).toEqual(['olmoe'])
  const path = join(places.resourcesPath, 'bad.jsonl')
  writeFileSync(path, '{"prompt":"a","response":"b"}\n{"prompt":"a"}\n')
  const { id } = await core.client.runs.create({ config: adapted('sft', base, {}, { data: [path] }) })
  expect((await follow(core, id)).error).toMatchObject({ code: 'source.badRow', params: { file: 'bad.jsonl', row: 2, field: 'response' } })
})
