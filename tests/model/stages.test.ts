/**
 * Every stage from a real checkpoint, with the real trainer and loop: what it starts with, what it refuses, and that a run that was cut
 * off and resumed ends with the same bits as one that ran through, at each stage and for each kind of model.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { openSafetensors } from '#core/formats/safetensors.ts'
import { declareWeights, listWeights } from '#core/model/parameters.ts'
import { createSequences } from '#core/model/sequences.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { runConfigSchema, type RunConfig } from '#core/shared/runs.ts'
import { learningRateAt, learningRateCurve } from '#core/shared/schedule.ts'
import { recipeFor, upcycledModel } from '#core/shared/stages.ts'
import { microBatchesOf, nextTokenRows } from '#core/train/batch.ts'
import { readCheckpoint, resumeCheckpoint, writeCheckpoint } from '#core/train/checkpoint.ts'
import { runTraining, type LoopState } from '#core/train/loop.ts'
import { trainerOptionsOf } from '#core/train/options.ts'
import { addNoise, denseNameOf, loadUpcycled, startFromCheckpoint } from '#core/train/start.ts'
import { createTrainer, type Trainer } from '#core/train/trainer.ts'
import { readModelConfig } from '#core/train/model-source.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import { drawWeights, loadModel } from '#core/train/weights.ts'
import { plainForward } from './plain-model.ts'
import { variant, variantConfigs } from './variant-configs.ts'

const folder = mkdtempSync(join(tmpdir(), 'moe-stages-'))
const tokenizer = join(folder, 'tokenizer.json')
const cpu = createCpuBackend({ threads: 2 })
beforeAll(() => writeFileSync(tokenizer, '{}'))
afterAll(async () => {
  await cpu.close()
  rmSync(folder, { recursive: true, force: true })
})

const recipe = (model: ModelConfig, changes: object = {}): RunConfig =>
  runConfigSchema.parse({ model, steps: 8, sequenceLength: 8, sequencesPerStep: 4, sequencesPerMicroBatch: 2, evaluateEverySteps: 0, checkpointEverySteps: 0, optimizer: { peakLearningRate: 1e-2, minLearningRate: 1e-3, warmupSteps: 2 }, ...changes })

type End = { losses: number[]; state: LoopState; id: string; hashes: string[] }

/** Trains `config` from where `place` puts it, until `stopAfter`, and saves checkpoint `id`. */
async function train(config: RunConfig, id: string, place: (trainer: Trainer) => Promise<LoopState>, stopAfter = Infinity): Promise<End> {
  const trainer = await createTrainer(cpu, trainerOptionsOf(config))
  const losses: number[] = []
  const saved: LoopState[] = []
  const hashes: string[] = []
  await runTraining(trainer, config, await place(trainer), {
    async stepBatch(position, count) {
      const rows = Array.from({ length: count }, (_, i) => {
        const random = createRandom(config.dataSeed ?? config.seed, `instance ${position + i}`)
        return Array.from({ length: config.sequenceLength }, () => random.nextBelow(config.model.vocab_size))
      })
      return { micros: microBatchesOf(nextTokenRows(Int32Array.from(rows.flat()), config.sequenceLength), 2 * config.sequenceLength) }
    },
    evaluate: async () => ({}),
    reportEveryMs: 0,
    peakFlopsPerSecond: null,
    stopRequest: () => (losses.length >= stopAfter ? 'save' : 'none'),
    onStep: ({ step, scalars }) => void (step > 0 && losses.push(scalars.loss!)),
    async checkpoint(state) {
      saved.push({ ...state })
      const identity = { id, runId: 'run', createdAt: 0, codeVersion: 'test', mixId: 'mix', mixHash: 'hash', parentId: null, validationLoss: null }
      const { files } = await writeCheckpoint(cpu, trainer, { ...state, seconds: 0, rng: [1], config, records: [] }, identity, folder, { tokenizerPath: tokenizer })
      hashes.push(files['model.safetensors']!.sha256, files['optimizer.safetensors']!.sha256)
    },
    now: () => 0,
  })
  trainer.release()
  return { losses, state: saved.at(-1)!, id, hashes }
}

const fresh = (config: RunConfig) => async (trainer: Trainer): Promise<LoopState> => {
  await drawWeights(cpu, config.model, trainer.weights, config.seed)
  return { step: 0, tokens: 0, seconds: 0, loaderPosition: 0, earlierSteps: 0 }
}
const begin = (config: RunConfig) => (config.startFrom ? (trainer: Trainer) => startFromCheckpoint(cpu, trainer, config, config.startFrom!, join(folder, config.startFrom!.checkpointId)) : fresh(config))
const resume = (id: string) => (trainer: Trainer): Promise<LoopState> => resumeCheckpoint(cpu, trainer, join(folder, id))

let counter = 0
/** Runs through, and again with a stop in the middle and a resume. Both must end with the same bits. */
async function throughAndResumed(config: RunConfig, stopAfter: number): Promise<End> {
  const name = `c${counter++}`
  const through = await train(config, `${name}-through`, begin(config))
  await train(config, `${name}-cut`, begin(config), stopAfter)
  const resumed = await train(config, `${name}-resumed`, resume(`${name}-cut`))
  expect(through.losses.slice(-resumed.losses.length)).toEqual(resumed.losses)
  expect(resumed.losses).toHaveLength(through.losses.length - stopAfter)
  expect(resumed.hashes).toEqual(through.hashes)
  return through
}

describe('a run that is cut off and resumed ends with the same bits', () => {
  test.each(variantConfigs)('pretraining $name', async ({ config }) => {
    await throughAndResumed(recipe(config), 3)
  })

  test.each(['anneal', 'continue', 'fork'] as const)('%s', async (stage) => {
    const pretraining = recipe(variant('shared experts'))
    const base = await train(pretraining, `base-${stage}`, fresh(pretraining), 5)
    const config = runConfigSchema.parse(recipeFor(stage, { checkpointId: base.id, step: base.state.step, config: pretraining, learningRate: 5e-3 }))
    const end = await throughAndResumed(config, stage === 'fork' ? 1 : 2)
    expect(end.state.earlierSteps).toBe(stage === 'fork' ? 0 : 5)
  })

  test('upcycle, with noise', async () => {
    const pretraining = recipe(variant('dense'))
    const base = await train(pretraining, 'base-upcycle', fresh(pretraining))
    const config = recipeFor('upcycle', { checkpointId: base.id, step: 8, config: pretraining, learningRate: null })
    await throughAndResumed(runConfigSchema.parse({ ...config, startFrom: { ...config.startFrom, noise: 0.5 } }), 3)
  })
})

test('a fork with nothing changed is the run itself; one without moments, or a continuation, is not', async () => {
  const config = recipe(variant('OLMoE'))
  const through = await train(config, 'whole', fresh(config))
  await train(config, 'half', fresh(config), 4)
  const later = (stage: Parameters<typeof recipeFor>[0], optimizer: boolean) => ({ ...recipeFor(stage, { checkpointId: 'half', step: 4, config, learningRate: 5e-3 }), startFrom: { checkpointId: 'half', optimizer, noise: 0 } })
  const ends = []
  for (const [i, one] of [later('fork', true), later('fork', false), later('continue', true)].entries()) ends.push(await train(one, `later-${i}`, begin(one)))
  expect(ends[0]!.losses).toEqual(through.losses.slice(4))
  expect(ends[0]!.hashes).toEqual(through.hashes)
  expect(ends[1]!.losses[0]).toBe(through.losses[4])
  expect(ends[1]!.hashes).not.toEqual(through.hashes)
  expect(ends[2]!.losses).toHaveLength(8)
})

test('annealing begins at the learning rate of its checkpoint, ends at 0 and meets data in another order', () => {
  const config = recipe(variant('OLMoE'))
  const anneal = recipeFor('anneal', { checkpointId: 'half', step: 4, config, learningRate: 4e-3 })
  expect(anneal.optimizer.peakLearningRate).toBe(4e-3)
  expect(learningRateAt(anneal.steps, anneal.steps, anneal.optimizer)).toBe(0)
  expect(anneal.dataSeed).not.toBe(config.dataSeed ?? config.seed)
  expect(anneal.startFrom).toEqual({ checkpointId: 'half', optimizer: true, noise: 0 })
})

test('a checkpoint of another model is refused by the tensor that differs, a fork past its end by the steps', async () => {
  const config = recipe(variant('OLMoE'))
  await train(config, 'other', fresh(config), 2)
  const from = { checkpointId: 'other', optimizer: true, noise: 0 }
  const started = async (changes: object) => {
    const later = runConfigSchema.parse({ ...config, ...changes, startFrom: from })
    const trainer = await createTrainer(cpu, trainerOptionsOf(later))
    return startFromCheckpoint(cpu, trainer, later, from, join(folder, 'other')).finally(() => trainer.release())
  }
  await expect(started({ stage: 'continue', model: { ...config.model, use_qk_norm: false } })).rejects.toMatchObject({ code: 'run.otherModel', params: { tensor: 'model.layers.0.self_attn.q_norm.weight [8]' } })
  await expect(started({ stage: 'fork', steps: 2, optimizer: { ...config.optimizer, warmupSteps: 1 } })).rejects.toMatchObject({ code: 'run.startsAtEnd' })
  // What changes no tensor may change.
  await expect(started({ stage: 'continue', model: { ...config.model, num_experts_per_tok: 1 } })).resolves.toMatchObject({ step: 0, earlierSteps: 2 })
})

describe('sparse upcycling', () => {
  const dense = variant('dense')
  const experts = { num_experts: 4, num_experts_per_tok: 2 }

  beforeAll(async () => {
    await train(recipe(dense), 'dense', fresh(recipe(dense)))
  })

  async function finals(config: ModelConfig): Promise<{ found: number[][]; dense: number[][]; gates: number }> {
    const weights = declareWeights(config)
    const backend = createReferenceBackend()
    backend.allocate(listWeights(weights))
    await loadUpcycled(backend, join(folder, 'dense'), config, weights, { seed: 1, noise: 0 })
    const file = openSafetensors(join(folder, 'dense', 'model.safetensors'))
    const original = new Map([...file.entries.keys()].map((name) => [name, file.readFloat32(name)]))
    file.close()
    const sparse = new Map<string, ArrayLike<number>>(original)
    for (const [i, { moe }] of weights.layers.entries()) {
      const [gateUp, down] = [await backend.read(moe!.gateUp), await backend.read(moe!.down)]
      const half = gateUp.length / config.num_experts / 2
      sparse.set(`model.layers.${i}.mlp.gate.weight`, await backend.read(moe!.router))
      for (let e = 0; e < config.num_experts; e++) {
        sparse.set(`model.layers.${i}.mlp.experts.${e}.gate_proj.weight`, gateUp.slice(2 * e * half, (2 * e + 1) * half))
        sparse.set(`model.layers.${i}.mlp.experts.${e}.up_proj.weight`, gateUp.slice((2 * e + 1) * half, (2 * e + 2) * half))
        sparse.set(`model.layers.${i}.mlp.experts.${e}.down_proj.weight`, down.slice(e * half, (e + 1) * half))
      }
      for (const name of ['gate_proj', 'up_proj', 'down_proj']) sparse.delete(`model.layers.${i}.mlp.${name}.weight`)
    }
    const ids = [3, 1, 4, 1, 5]
    const run = plainForward(config, sparse, ids)
    const p = run.routers[0]!.probs[0]!.toSorted((a, b) => b - a)
    return { found: run.final, dense: plainForward(dense, original, ids).final, gates: p[0]! + p[1]! }
  }
  const distance = (a: number[][], b: number[][]): number => Math.max(...a.flatMap((row, t) => row.map((value, d) => Math.abs(value - b[t]![d]!))))

  test('with a normalised gate the new model computes what the dense one did', async () => {
    const { found, dense: expected } = await finals({ ...upcycledModel(dense, experts), norm_topk_prob: true })
    expect(distance(found, expected)).toBeLessThan(1e-12)
  })

  test('without, its experts count for the sum of their gates, which is less than 1', async () => {
    const { found, dense: expected, gates } = await finals(upcycledModel(dense, experts))
    expect(gates).toBeLessThan(1)
    expect(distance(found, expected)).toBeGreaterThan(1e-4)
  })

  test('every expert comes from its own layer, and noise replaces its share of the weights', () => {
    expect(denseNameOf('model.layers.7.mlp.experts.12.up_proj.weight')).toBe('model.layers.7.mlp.up_proj.weight')
    expect(denseNameOf('model.layers.7.self_attn.q_proj.weight')).toBe('model.layers.7.self_attn.q_proj.weight')
    const noisy = addNoise(new Float32Array(20_000).fill(9), 0.5, 0.02, 1, 'noise')
    const drawn = noisy.filter((value) => value !== 9)
    expect(drawn.length / noisy.length).toBeCloseTo(0.5, 1)
    expect(Math.sqrt(drawn.reduce((sum, value) => sum + value * value, 0) / drawn.length)).toBeCloseTo(0.02, 3)
  })
})

test('a variant’s config.json says what it is, and opens again; OLMoE’s is OLMoE’s', async () => {
  for (const [name, type] of [['everything at once', 'moe_workbench'], ['OLMoE', 'olmoe']] as const) {
    const config = recipe(variant(name))
    const { id } = await train(config, `config-${type}`, fresh(config), 1)
    expect(readModelConfig(join(folder, id))).toEqual(config.model)
    expect(readCheckpoint(join(folder, id)).state.config).toEqual(config)
  }
})

test.each(variantConfigs)('packed, $name generates what its checkpoint does', async ({ name, config }) => {
  const { id } = await train(recipe(config), `packed ${name}`, fresh(recipe(config)), 1)
  const [plain, packed] = [await loadModel(cpu, join(folder, id)), loadPackedModel(cpu, join(folder, id), 'bf16')]
  const logits = []
  for (const weights of [plain.weights, packed.weights]) {
    const generator = createSequences(cpu, config, weights, { count: 1, capacity: 8 })
    logits.push(Float32Array.from(await generator.feed(0, [3, 1, 4, 1])))
    generator.release()
  }
  const [expected, found] = logits as [Float32Array, Float32Array]
  const size = Math.max(...expected.map(Math.abs))
  expect(Math.max(...expected.map((value, v) => Math.abs(value - found[v]!))) / size).toBeLessThan(0.03)
})

describe('schedules', () => {
  const shape = { peakLearningRate: 1, minLearningRate: 0.1, warmupSteps: 10, warmupStart: 0.5 }
  test.each([
    ['cosine', {}, [[1, 0.55], [10, 1], [55, 0.55], [100, 0.1]]],
    ['linear', {}, [[10, 1], [55, 0.55], [100, 0.1]]],
    ['constant', {}, [[5, 0.75], [100, 1]]],
    ['warmup-stable-decay', { decaySteps: 20 }, [[11, 1], [80, 1], [90, 0.55], [100, 0.1]]],
    ['cosine', { scheduleSteps: 50 }, [[30, 0.55], [50, 0.1], [100, 0.1]]],
  ] as const)('%s %o', (schedule, changes, points) => {
    for (const [step, rate] of points) expect(learningRateAt(step, 100, { ...shape, ...changes, schedule }), `step ${step}`).toBeCloseTo(rate, 12)
    const curve = learningRateCurve(100, { ...shape, ...changes, schedule }, 20)
    curve.steps.forEach((step, i) => expect(curve.rates[i]).toBe(learningRateAt(step, 100, { ...shape, ...changes, schedule })))
    // The corners are in it, however few its points.
    expect(curve.steps).toEqual(expect.arrayContaining([1, 10, 11, 100, ...(schedule === 'warmup-stable-decay' ? [80] : [])]))
  })
})
