/**
 * Full parity with PyTorch on the three oracle models, on the referee, the CPU and software GPUs: logits, routing, losses, every gradient,
 * three AdamW steps, greedy tokens. Tolerances are those of a float32 implementation: logits and losses 1e-5 relative, gradients
 * 1e-4 relative per tensor, weights after three steps 1e-5 absolute, greedy tokens equal.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { persistent, type Backend } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { createScorer } from '#core/evaluate/scorer.ts'
import { openSafetensors } from '#core/formats/safetensors.ts'
import { createGenerator } from '#core/model/generator.ts'
import { modelForward } from '#core/model/olmoe.ts'
import { huggingFaceParts, type Weights } from '#core/model/parameters.ts'
import { sampleToken } from '#core/model/sampling.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { microBatchesOf, nextTokenRows } from '#core/train/batch.ts'
import { createTrainer, type MicroBatch } from '#core/train/trainer.ts'
import { readModelConfig } from '#core/train/model-source.ts'
import { loadModel, loadWeightsInto, readTokenBatch } from '#core/train/weights.ts'
import { nameMissingGpus, patienceMs, testGpus } from '../gpu/adapters.ts'
import { relativeError } from '../ops/run-case.ts'
import { worstPart } from './named-parts.ts'

type Report = {
  case: { alpha: number; beta: number; lr: number; betas: [number, number]; eps: number; weight_decay: number; clip: number; steps: number }
  cross_entropy: number
  load_balance: number
  router_z: number
  total: number
  adamw: { total: number; grad_norm: number }[]
  greedy: { prompt: number[]; tokens: number[] }
}

const folderOf = (name: string): string => join(import.meta.dirname, '../fixtures/oracle', name)
const cases = ['tiny', 'fine_grained', 'dense'].flatMap((name) => [
  { name, device: 'reference', open: async (): Promise<Backend> => createReferenceBackend() },
  { name, device: 'cpu', open: async (): Promise<Backend> => createCpuBackend({ threads: 2 }) },
  ...testGpus.map((gpu) => ({ name, device: gpu.name, open: (): Promise<Backend> => gpu.share() })),
])

vi.setConfig({ testTimeout: patienceMs })
nameMissingGpus('parity with PyTorch')

/**
 * Largest absolute difference of the weights after AdamW, where the first gradient of an element is more than a rounding error of its
 * tensor (1e-5 of the largest); below that AdamW divides noise by noise, and the differences are only held to 1e-4.
 */
async function worstWeight(backend: Backend, config: ModelConfig, weights: Weights, folder: string): Promise<number> {
  const [after, gradients] = [openSafetensors(join(folder, 'after_adamw.safetensors')), openSafetensors(join(folder, 'grads.safetensors'))]
  let worst = 0
  for (const { tensor, parts } of huggingFaceParts(config, weights)) {
    const data = await backend.read(tensor)
    for (const { name, elementOffset } of parts) {
      const [expected, gradient] = [after.readFloat32(name), gradients.readFloat32(name)]
      const floor = 1e-5 * gradient.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
      expected.forEach((value, i) => {
        const error = Math.abs(value - data[elementOffset + i]!)
        worst = Math.max(worst, Math.abs(gradient[i]!) > floor ? error : error / 10)
      })
    }
  }
  after.close()
  gradients.close()
  return worst
}

describe.each(cases)('$name on $device', ({ name, open }) => {
  const folder = folderOf(name)
  const report = JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')) as Report
  const { ids, mask, sequence } = readTokenBatch(join(folder, 'forward.safetensors'))
  const sequences = ids.length / sequence
  const batchOf = (perMicro: number): MicroBatch[] => microBatchesOf(nextTokenRows(ids, sequence, mask), perMicro * sequence)

  test('logits and routing', async () => {
    const backend = await open()
    const { config: c, weights } = await loadModel(backend, join(folder, 'model'))
    const T = ids.length
    const layers = Array.from({ length: c.num_hidden_layers }, (_, i) => i)
    const taps = {
      logits: layers.map((i) => persistent(`router.${i}`, [T, c.num_experts])),
      experts: layers.map((i) => persistent(`experts.${i}`, [T, c.num_experts_per_tok], 'i32')),
    }
    const batch = { ids: persistent('ids', [T], 'i32'), positions: persistent('positions', [T], 'i32'), sequence }
    const logits = persistent('logits', [T, c.vocab_size])
    backend.allocate([...taps.logits, ...taps.experts, batch.ids, batch.positions, logits])
    await backend.write(batch.ids, ids)
    await backend.write(batch.positions, Int32Array.from(ids, (_, t) => t % sequence))
    const plan = record('logits', (b) => b.linearForward({ y: logits, x: modelForward(b, c, weights, batch, taps).final, weight: weights.head }))
    await (await backend.prepare(plan)).run()
    const oracle = openSafetensors(join(folder, 'forward.safetensors'))
    expect(relativeError(await backend.read(logits), oracle.readFloat32('logits'))).toBeLessThan(1e-5)
    for (const i of layers) {
      expect(relativeError(await backend.read(taps.logits[i]!), oracle.readFloat32(`router_logits.${i}`))).toBeLessThan(1e-5)
      expect([...(await backend.read(taps.experts[i]!))]).toEqual([...oracle.readInt32(`chosen_experts.${i}`)])
    }
    oracle.close()
    await backend.close()
  })

  test('losses, gradients and three AdamW steps', async () => {
    const backend = await open()
    const config = readModelConfig(join(folder, 'model'))
    const k = report.case
    const optimizer = { betas: k.betas, eps: k.eps, weightDecay: k.weight_decay, clip: k.clip }
    const trainer = await createTrainer(backend, { model: config, sequenceLength: sequence, sequencesPerMicroBatch: sequences, microBatchesPerStep: 1, loadBalanceWeight: k.alpha, routerZWeight: k.beta, optimizer })
    await loadWeightsInto(backend, join(folder, 'model'), config, trainer.weights)
    const batch = batchOf(sequences)
    for (let step = 1; step <= k.steps; step++) {
      const losses = await (await trainer.accumulate(batch)).read()
      if (step === 1) {
        const found = [losses.crossEntropy, losses.loadBalance, losses.routerZ, losses.total]
        const expected = [report.cross_entropy, report.load_balance, report.router_z, report.total]
        found.forEach((value, i) => expect(Math.abs(value / expected[i]! - 1)).toBeLessThan(1e-5))
        expect(await worstPart(backend, config, trainer.gradients, join(folder, 'grads.safetensors'), relativeError)).toBeLessThan(1e-4)
      }
      expect(Math.abs(losses.total / report.adamw[step - 1]!.total - 1)).toBeLessThan(1e-5)
      const gradNorm = await (await trainer.update(k.lr, step)).read()
      expect(Math.abs(gradNorm / report.adamw[step - 1]!.grad_norm - 1)).toBeLessThan(1e-5)
    }
    expect(await worstWeight(backend, config, trainer.weights, folder)).toBeLessThan(1e-5)
    await backend.close()
  })

  test('two micro-batches give the gradients of the whole', async () => {
    const backend = await open()
    const config = readModelConfig(join(folder, 'model'))
    const optimizer = { betas: [0.9, 0.95] as [number, number], eps: 1e-8, weightDecay: 0, clip: 0 }
    const trainer = await createTrainer(backend, { model: config, sequenceLength: sequence, sequencesPerMicroBatch: 1, microBatchesPerStep: 2, loadBalanceWeight: 0, routerZWeight: report.case.beta, optimizer })
    await loadWeightsInto(backend, join(folder, 'model'), config, trainer.weights)
    const losses = await (await trainer.accumulate(batchOf(1))).read()
    expect(Math.abs(losses.crossEntropy / report.cross_entropy - 1)).toBeLessThan(1e-5)
    expect(Math.abs(losses.routerZ / report.router_z - 1)).toBeLessThan(1e-5)
    await backend.close()
  })

  test('greedy generation with a cache, and log-probabilities', async () => {
    const backend = await open()
    const { config, weights } = await loadModel(backend, join(folder, 'model'))
    const { prompt, tokens } = report.greedy
    const generator = await createGenerator(backend, config, weights, prompt.length + tokens.length)
    const made: number[] = []
    const logProbabilities: number[] = []
    let logits = await generator.feed(prompt)
    while (made.length < tokens.length) {
      const { id, logProbability } = sampleToken(logits, { temperature: 0, topP: 1 }, createRandom(0, 'sampling'))
      made.push(id)
      logProbabilities.push(logProbability)
      logits = await generator.feed([id])
    }
    expect(made).toEqual(tokens)
    const scores = await createScorer(backend, config, weights).score([...prompt, ...tokens])
    expect(scores[0]).toBeNull()
    logProbabilities.forEach((logProbability, i) => expect(scores[prompt.length + i]!).toBeCloseTo(logProbability, 4))
    await backend.close()
  })
})
