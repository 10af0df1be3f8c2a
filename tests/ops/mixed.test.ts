/**
 * The mixed precision of the CPU backend: every op case against the referee, with a tolerance of bf16 where an op multiplies, the
 * same bits whatever the thread count, and a model's training step that stays beside the float32 one.
 * Where the processor multiplies no bf16, mixed is float32, and the same holds.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import type { TensorData } from '#core/backend/backend.ts'
import { listWeights } from '#core/model/parameters.ts'
import { modelConfigSchema } from '#core/shared/models.ts'
import { createTrainer } from '#core/train/trainer.ts'
import { drawWeights } from '#core/train/weights.ts'
import { opCases, type OpCase } from './cases.ts'
import { relativeError, runCase } from './run-case.ts'

const threadCounts = [1, 2, 3]
const reference = createReferenceBackend()
const backends = threadCounts.map((threads) => createCpuBackend({ threads, precision: 'mixed' }))

afterAll(async () => {
  for (const backend of backends) await backend.close()
})

const bits = (data: TensorData): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength)
/** Of bf16: 2^-8 a rounding, and what stands in an exponent is off by that of the logits themselves (here up to 20). */
const toleranceOf = ({ op, tolerance }: OpCase): number => (op === 'headCrossEntropyBackward' ? 4e-2 : /^(linear|groupedLinear|attention|headCrossEntropy)/.test(op) ? 2e-2 : tolerance)

/** ‖found − expected‖ / ‖expected‖. */
function distance(found: TensorData, expected: TensorData): number {
  let [difference, norm] = [0, 1e-30]
  expected.forEach((value, i) => {
    difference += (found[i]! - value) ** 2
    norm += value ** 2
  })
  return Math.sqrt(difference / norm)
}
const large = (op: OpCase['op'], sizes: OpCase['sizes'], more: Partial<OpCase> = {}): OpCase => ({ op, label: 'large', sizes, attrs: {}, given: {}, optional: [], tolerance: 0, flops: () => 0, ...more })
const attention = { sizes: { T: 620, C: 24, H: 4, G: 2 }, attrs: { H: 4, G: 2, sequence: 310 } }
const head = { given: { targets: ({ T, V }: OpCase['sizes']) => Array.from({ length: T! }, (_, t) => (t * 37) % V!), lse: ({ T }: OpCase['sizes']) => new Array<number>(T!).fill(22) } }
const largeCases = [
  large('linearForward', { T: 210, N: 700, J: 2300 }, { optional: ['add'] }),
  large('linearBackwardInput', { T: 210, N: 1100, J: 701 }),
  large('linearBackwardWeight', { T: 2101, N: 110, J: 700 }),
  large('attentionForward', attention.sizes, attention),
  large('attentionBackward', attention.sizes, { ...attention, given: { lse: ({ T, H }) => new Array<number>(T! * H!).fill(6) } }),
  large('headCrossEntropyForward', { T: 530, D: 40, V: 300 }, head),
  large('headCrossEntropyBackward', { T: 530, D: 40, V: 300 }, head),
]

describe('ops', () => {
  test.each([...opCases, ...largeCases].map((opCase) => ({ title: `${opCase.op}: ${opCase.label}`, opCase })))('$title', async ({ opCase }) => {
    const expected = await runCase(reference, opCase)
    const [found, ...others] = await Promise.all(backends.map((backend) => runCase(backend, opCase)))
    for (const [name, values] of Object.entries(expected)) {
      expect(relativeError(found![name]!, values), name).toBeLessThanOrEqual(toleranceOf(opCase))
      for (const other of others) expect(bits(other[name]!).equals(bits(found![name]!)), `${name}: the bits differ`).toBe(true)
    }
  })
})

describe('a training step', () => {
  const file = JSON.parse(readFileSync(join(import.meta.dirname, '../fixtures/oracle/fine_grained/model/config.json'), 'utf8')) as object
  const config = modelConfigSchema.parse(file)
  const [sequence, sequences] = [48, 3]
  const T = sequence * sequences
  const data = {
    ids: Int32Array.from({ length: T }, (_, t) => (t * 131) % config.vocab_size),
    targets: Int32Array.from({ length: T }, (_, t) => (t * 57 + 5) % config.vocab_size),
    lossWeights: new Float32Array(T).fill(1 / T),
  }
  const step = async (backend: CpuBackend): Promise<{ loss: number; norm: number; gradients: TensorData[]; weights: TensorData[]; scratchBytes: number }> => {
    const optimizer = { betas: [0.9, 0.95] as [number, number], eps: 1e-8, weightDecay: 0.1, clip: 1 }
    const trainer = await createTrainer(backend, { model: config, sequenceLength: sequence, sequencesPerMicroBatch: sequences, microBatchesPerStep: 1, loadBalanceWeight: 0.01, routerZWeight: 0.001, optimizer })
    await drawWeights(backend, config, trainer.weights, 0)
    const losses = await (await trainer.accumulate([data])).read()
    const gradients = await Promise.all(listWeights(trainer.gradients).map((tensor) => backend.read(tensor)))
    const norm = await (await trainer.update(1e-3, 1)).read()
    const weights = await Promise.all(listWeights(trainer.weights).map((tensor) => backend.read(tensor)))
    trainer.release()
    return { loss: losses.total, norm, gradients, weights, scratchBytes: trainer.plannedBytes - backend.kernelBytes!() }
  }

  test('has the loss and gradients of float32 but for the rounding of operands, in less memory', async () => {
    const exact = createCpuBackend({ threads: 2 })
    const expected = await step(exact)
    const found = await step(backends[1]!)
    expect(Math.abs(found.loss / expected.loss - 1)).toBeLessThan(1e-3)
    expect(Math.abs(found.norm / expected.norm - 1)).toBeLessThan(2e-2)
    // By norm: where two experts are nearly as probable, a token may go to the other one.
    found.gradients.forEach((gradient, i) => expect(distance(gradient, expected.gradients[i]!), `gradient ${i}`).toBeLessThan(0.1))
    if (backends[1]!.precision === 'mixed') expect(found.scratchBytes).toBeLessThan(expected.scratchBytes)
    await exact.close()
  })

  test('has the same bits whatever the thread count', async () => {
    const [first, ...others] = [await step(backends[0]!), await step(backends[1]!), await step(backends[2]!)]
    for (const other of others) {
      expect(other.loss).toBe(first.loss)
      other.gradients.forEach((gradient, i) => expect(bits(gradient).equals(bits(first.gradients[i]!)), `gradient ${i}`).toBe(true))
      other.weights.forEach((weight, i) => expect(bits(weight).equals(bits(first.weights[i]!)), `weight ${i}`).toBe(true))
    }
  })
})
