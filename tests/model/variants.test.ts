/**
 * Every variant of the family against the plain model (plain-model.ts): losses to float64's rounding, gradients against central
 * differences of the plain losses, parameter counts against the tensors; and the CPU and cached generation against the referee.
 */
import { afterAll, describe, expect, test } from 'vitest'
import { elementCount, type Backend } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { createSequences } from '#core/model/sequences.ts'
import { declareWeights, huggingFaceParts, initialValues, listWeights, type Weights } from '#core/model/parameters.ts'
import { causal, countParameters, modelConfigSchema, moeLayers, trainingFlopsPerToken, type ModelConfig } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { createTrainer, type Trainer } from '#core/train/trainer.ts'
import { plainForward, plainLosses, type NamedWeights } from './plain-model.ts'
import { variantConfigs } from './variant-configs.ts'

const [sequence, sequences] = [6, 2]
const [alpha, beta] = [0.3, 0.2]
const cpu = createCpuBackend({ threads: 2 })
afterAll(() => cpu.close())

const draw = (c: ModelConfig): { ids: Int32Array; targets: Int32Array } => {
  const random = createRandom(3, 'tokens')
  const ids = Int32Array.from({ length: sequence * sequences }, () => random.nextBelow(c.vocab_size))
  return { ids, targets: Int32Array.from(ids, (_, t) => (t % 5 === 4 ? -1 : random.nextBelow(c.vocab_size))) }
}

async function trainerOf(backend: Backend, c: ModelConfig): Promise<Trainer> {
  const trainer = await createTrainer(backend, {
    model: c, sequenceLength: sequence, sequencesPerMicroBatch: sequences, microBatchesPerStep: 1, loadBalanceWeight: alpha, routerZWeight: beta,
    optimizer: { betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, clip: 1 },
  })
  for (const tensor of listWeights(trainer.weights)) {
    const random = createRandom(9, tensor.name)
    // Norms off 1, so that their gradients count.
    const values = new Float32Array(elementCount(tensor))
    initialValues(c, tensor, 5)(values)
    await backend.write(tensor, values.map((value) => Math.fround(value + (tensor.name.endsWith('Norm') ? 0.2 * random.nextNormal() : 0))))
  }
  return trainer
}

async function named(backend: Backend, c: ModelConfig, weights: Weights): Promise<Map<string, Float64Array>> {
  const found = new Map<string, Float64Array>()
  for (const { tensor, parts } of huggingFaceParts(c, weights)) {
    const values = Float64Array.from(await backend.read(tensor))
    for (const { name, shape, elementOffset } of parts) found.set(name, values.slice(elementOffset, elementOffset + elementCount(shape)))
  }
  return found
}

const micro = (c: ModelConfig) => {
  const { ids, targets } = draw(c)
  const counted = targets.filter((target) => target >= 0).length
  return { ids, targets, lossWeights: Float32Array.from(targets, (target) => (target >= 0 ? 1 / counted : 0)) }
}

/** Central difference of the plain total loss in one element. */
function difference(c: ModelConfig, weights: NamedWeights, name: string, at: number): number {
  const { ids, targets } = draw(c)
  const total = (delta: number): number => {
    const moved = Float64Array.from(weights.get(name)!)
    moved[at]! += delta
    const losses = plainLosses(c, new Map([...weights, [name, moved]]), [...ids], [...targets], sequence)
    return losses.crossEntropy + alpha * losses.loadBalance + beta * losses.routerZ
  }
  return (total(1e-5) - total(-1e-5)) / 2e-5
}

describe.each(variantConfigs)('$name', ({ config: c }) => {
  test('losses and gradients are those of the plain model', async () => {
    const backend = createReferenceBackend()
    const trainer = await trainerOf(backend, c)
    const losses = await (await trainer.accumulate([micro(c)])).read()
    const weights = await named(backend, c, trainer.weights)
    const { ids, targets } = draw(c)
    const expected = plainLosses(c, weights, [...ids], [...targets], sequence)
    // The weights of the losses are float32 numbers.
    expect(losses.crossEntropy).toBeCloseTo(expected.crossEntropy, 6)
    expect(losses.loadBalance).toBeCloseTo(expected.loadBalance, 10)
    expect(losses.routerZ).toBeCloseTo(expected.routerZ, 10)
    expect(losses.expertCounts).toHaveLength(moeLayers(c).length * c.num_experts)

    const gradients = await named(backend, c, trainer.gradients)
    for (const [name, gradient] of gradients) {
      // Two elements of each: the largest gradient, and one that is anywhere.
      const largest = gradient.reduce((best, value, i) => (Math.abs(value) > Math.abs(gradient[best]!) ? i : best), 0)
      for (const at of [largest, gradient.length >> 1]) expect(Math.abs(gradient[at]! - difference(c, weights, name, at)), `${name}[${at}]`).toBeLessThan(2e-7)
    }
  })

  test('a step on the CPU is that of the referee', async () => {
    const steps = []
    for (const backend of [createReferenceBackend(), cpu]) {
      const trainer = await trainerOf(backend, c)
      const losses = await (await trainer.accumulate([micro(c)])).read()
      const norm = await (await trainer.update(1e-3, 1)).read()
      steps.push({ losses, norm, weights: await named(backend, c, trainer.weights) })
      trainer.release()
    }
    const [expected, found] = steps as [(typeof steps)[0], (typeof steps)[0]]
    expect(found.losses.expertCounts).toEqual(expected.losses.expertCounts)
    expect(found.losses.total).toBeCloseTo(expected.losses.total, 5)
    expect(found.norm / expected.norm).toBeCloseTo(1, 4)
    for (const [name, values] of expected.weights) expect(Math.max(...values.map((value, i) => Math.abs(value - found.weights.get(name)![i]!))), name).toBeLessThan(1e-4)
  })

  test('generation with a cache gives what the plain model, with tokens choosing, gives', async () => {
    const backend = createReferenceBackend()
    const trainer = await trainerOf(backend, c)
    const weights = await named(backend, c, trainer.weights)
    const ids = [...draw(c).ids].slice(0, 5)
    const { final } = plainForward(causal(c), weights, ids)
    const head = weights.get('lm_head.weight')!
    const logits = Array.from({ length: c.vocab_size }, (_, v) => final.at(-1)!.reduce((sum, x, d) => sum + x * head[v * c.hidden_size + d]!, 0))
    const generator = createSequences(backend, c, trainer.weights, { count: 1, capacity: 8 })
    await generator.feed(0, ids.slice(0, 3))
    await generator.feed(0, ids.slice(3, 4))
    const found = await generator.feed(0, ids.slice(4))
    found.forEach((value, v) => expect(value).toBeCloseTo(logits[v]!, 10))
    expect(await generator.routing()).toHaveLength(moeLayers(c).length)
  })

  test('its parameters are counted, and config.json carries it', () => {
    const parameters = listWeights(declareWeights(c)).reduce((sum, tensor) => sum + elementCount(tensor), 0)
    expect(countParameters(c).total).toBe(parameters)
    expect(modelConfigSchema.parse(JSON.parse(JSON.stringify(c)))).toEqual(c)
  })
})

/** Multiply-adds of matrices met by one token, counted layer by layer. */
test.each(variantConfigs)('FLOPs of $name, counted by hand', ({ config: c }) => {
  const [D, F, T] = [c.hidden_size, c.intermediate_size, 16]
  const kv = (D * c.num_key_value_heads) / c.num_attention_heads
  let weights = c.vocab_size * D
  for (let layer = 1; layer <= c.num_hidden_layers; layer++) {
    weights += 2 * D * D + 2 * D * kv
    const isSparse = c.num_experts > 0 && layer % c.decoder_sparse_step === 0
    const slots = c.routing === 'expert_choice' ? (c.num_experts * Math.floor((c.num_experts_per_tok * T) / c.num_experts)) / T : c.num_experts_per_tok
    if (isSparse) weights += c.num_experts * D + (slots + c.num_shared_experts) * 3 * D * F
    else weights += 3 * D * (c.dense_intermediate_size ?? (c.num_experts_per_tok + c.num_shared_experts) * F)
  }
  expect(trainingFlopsPerToken(c, T)).toBeCloseTo(6 * weights + 6 * c.num_hidden_layers * T * D, 6)
})
