/**
 * Expert choice and sparse upcycling against plain PyTorch (tests/fixtures/variants), on the referee, the CPU and a software GPU: who takes
 * which token, logits, losses, every gradient (the router's among them), three AdamW steps; and that the upcycled weights are PyTorch's.
 * PyTorch computed in float64, so the referee is held to what float32 files can say, the others to float32 arithmetic.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import { persistent, type Backend, type Tensor } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { openSafetensors } from '#core/formats/safetensors.ts'
import { modelForward } from '#core/model/olmoe.ts'
import { declareWeights, listWeights } from '#core/model/parameters.ts'
import { expertCapacity, moeLayers } from '#core/shared/models.ts'
import { microBatchesOf, nextTokenRows } from '#core/train/batch.ts'
import { readModelConfig } from '#core/train/model-source.ts'
import { loadUpcycled } from '#core/train/start.ts'
import { createTrainer, type TrainerOptions } from '#core/train/trainer.ts'
import { loadModel, loadWeightsInto, readTokenBatch } from '#core/train/weights.ts'
import { nameMissingGpus, patienceMs, testGpus } from '../gpu/adapters.ts'
import { relativeError } from '../ops/run-case.ts'
import { worstPart } from './named-parts.ts'

type Report = {
  cross_entropy: number
  load_balance: number
  router_z: number
  alpha: number
  beta: number
  lr: number
  betas: [number, number]
  eps: number
  weight_decay: number
  clip: number
  curve: { total: number; grad_norm: number }[]
}

const folderOf = (name: string): string => join(import.meta.dirname, '../fixtures/variants', name)
const devices = [
  { device: 'reference', tolerance: 1e-6, open: async (): Promise<Backend> => createReferenceBackend() },
  { device: 'cpu', tolerance: 1e-5, open: async (): Promise<Backend> => createCpuBackend({ threads: 2 }) },
  // One software GPU: tests/gpu compares the other's kernels with the referee's.
  ...testGpus.filter(({ name }) => name === 'lavapipe').map((gpu) => ({ device: gpu.name, tolerance: 1e-5, open: (): Promise<Backend> => gpu.share() })),
]
const cases = ['expert_choice', 'upcycling'].flatMap((name) => devices.map((device) => ({ name, ...device })))

vi.setConfig({ testTimeout: patienceMs })
nameMissingGpus('variants against PyTorch')

describe.each(cases)('$name on $device', ({ name, tolerance, open }) => {
  const folder = folderOf(name)
  const config = readModelConfig(join(folder, 'model'))
  const report = JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')) as Report
  const { ids, mask, sequence } = readTokenBatch(join(folder, 'forward.safetensors'))

  test('who takes which token, router logits and logits', async () => {
    const backend = await open()
    const { weights } = await loadModel(backend, join(folder, 'model'))
    const [T, E, layers] = [ids.length, config.num_experts, moeLayers(config).map((_, i) => i)]
    const ofLayers = (what: string, shape: number[], type?: 'i32'): Tensor[] => layers.map((i) => persistent(`${what}.${i}`, shape, type))
    const isExpertChoice = config.routing === 'expert_choice'
    const routerLogits = ofLayers('logits', [T, E])
    const experts = ofLayers('experts', [T, config.num_experts_per_tok], 'i32')
    const tokenSlots = ofLayers('tokenSlot', [T, E], 'i32')
    const batch = { ids: persistent('ids', [T], 'i32'), positions: persistent('positions', [T], 'i32'), sequence }
    const logits = persistent('all', [T, config.vocab_size])
    backend.allocate([...routerLogits, ...experts, ...tokenSlots, batch.ids, batch.positions, logits])
    await backend.write(batch.ids, ids)
    await backend.write(batch.positions, Int32Array.from(ids, (_, t) => t % sequence))
    const plan = record('logits', (b) => {
      const { final, routed } = modelForward(b, config, weights, batch, { logits: routerLogits, ...(!isExpertChoice && { experts }) })
      // The model's own slots are scratch: the same op on the same probabilities once more.
      if (isExpertChoice) routed.forEach(({ probs, counts, offsets, slotToken, slotIndex }, i) => b.expertChoiceForward({ counts, offsets, slotToken, slotIndex, tokenSlot: tokenSlots[i]!, probs, sequence, capacity: expertCapacity(config, sequence) }))
      b.linearForward({ y: logits, x: final, weight: weights.head })
    })
    await (await backend.prepare(plan)).run()
    const expected = openSafetensors(join(folder, 'forward.safetensors'))
    expect(relativeError(await backend.read(logits), expected.readFloat32('logits'))).toBeLessThan(tolerance)
    for (const i of layers) {
      expect(relativeError(await backend.read(routerLogits[i]!), expected.readFloat32(`router_logits.${i}`))).toBeLessThan(tolerance)
      const reached = new Int32Array(T * E)
      if (isExpertChoice) (await backend.read(tokenSlots[i]!)).forEach((slot, at) => (reached[at] = Number(slot >= 0)))
      else (await backend.read(experts[i]!)).forEach((e, at) => (reached[Math.floor(at / config.num_experts_per_tok) * E + e] = 1))
      expect([...reached]).toEqual([...expected.readInt32(`reached.${i}`)])
    }
    expected.close()
    await backend.close()
  })

  test('losses, gradients and three AdamW steps', async () => {
    const backend = await open()
    const options: TrainerOptions = {
      model: config, sequenceLength: sequence, sequencesPerMicroBatch: ids.length / sequence, microBatchesPerStep: 1, loadBalanceWeight: report.alpha, routerZWeight: report.beta,
      optimizer: { betas: report.betas, eps: report.eps, weightDecay: report.weight_decay, clip: report.clip },
    }
    const trainer = await createTrainer(backend, options)
    await loadWeightsInto(backend, join(folder, 'model'), config, trainer.weights)
    const batch = microBatchesOf(nextTokenRows(ids, sequence, mask), ids.length)
    for (const [i, { total, grad_norm }] of report.curve.entries()) {
      const losses = await (await trainer.accumulate(batch)).read()
      if (i === 0) {
        const [found, expected] = [[losses.crossEntropy, losses.loadBalance, losses.routerZ], [report.cross_entropy, report.load_balance, report.router_z]]
        found.forEach((value, at) => expect(Math.abs(value / expected[at]! - 1)).toBeLessThan(tolerance))
        expect(await worstPart(backend, config, trainer.gradients, join(folder, 'grads.safetensors'), relativeError)).toBeLessThan(10 * tolerance)
      }
      expect(Math.abs(losses.total / total - 1)).toBeLessThan(tolerance)
      expect(Math.abs((await (await trainer.update(report.lr, i + 1)).read()) / grad_norm - 1)).toBeLessThan(tolerance)
    }
    await backend.close()
  })
})

test('upcycling the dense checkpoint gives the weights that PyTorch made of it, but for the router, which is drawn', async () => {
  const folder = folderOf('upcycling')
  const config = readModelConfig(join(folder, 'model'))
  const backend = createReferenceBackend()
  const weights = declareWeights(config)
  backend.allocate(listWeights(weights))
  await loadUpcycled(backend, join(folder, 'dense'), config, weights, { seed: 1, noise: 0 })
  const routers = weights.layers.map(({ moe }) => moe!.router)
  for (const router of routers) {
    const values = [...(await backend.read(router))]
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length)
    expect(deviation / config.initializer_range).toBeGreaterThan(0.8)
    expect(deviation / config.initializer_range).toBeLessThan(1.2)
  }
  const file = openSafetensors(join(folder, 'model/model.safetensors'))
  for (const [i, router] of routers.entries()) await backend.write(router, file.readFloat32(`model.layers.${i}.mlp.gate.weight`))
  file.close()
  expect(await worstPart(backend, config, weights, join(folder, 'model/model.safetensors'), relativeError)).toBe(0)
})
