/** Weights that stay packed between runs: the same bits as packed in every call, whoever changes the weight, and their memory is counted. */
import { expect, test } from 'vitest'
import { persistent } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'

const [T, N, J, E] = [40, 70, 33, 3]
const noise = (count: number, seed: number): Float32Array => Float32Array.from({ length: count }, (_, i) => (((i + seed) * 7919) % 1009) / 1009 - 0.5)

/** Outputs of three runs: fresh, after a write to one element of the weights, after an AdamW step of both. */
async function outputs(precision: 'float32' | 'mixed', keepsWeights: boolean): Promise<{ found: unknown[]; bytes: number }> {
  const backend = createCpuBackend({ precision, keepsWeights, threads: 2 })
  const [x, weight, experts, y, dX, slots, dSlots] = [
    persistent('x', [T, J]), persistent('weight', [N, J]), persistent('experts', [E, N, J]),
    persistent('y', [T, N]), persistent('dX', [T, J]), persistent('slots', [T, N]), persistent('dSlots', [T, J]),
  ]
  const offsets = persistent('offsets', [E + 1], 'i32')
  const state = [weight, experts].map((param) => ({ param, m: persistent('m', param.shape), v: persistent('v', param.shape), grad: persistent('grad', param.shape) }))
  const [scale, hyper] = [persistent('scale', [2]), persistent('hyper', [3])]
  backend.allocate([x, weight, experts, y, dX, slots, dSlots, offsets, scale, hyper, ...state.flatMap(({ m, v, grad }) => [m, v, grad])])
  for (const [i, tensor] of [x, weight, experts, ...state.map(({ grad }) => grad)].entries()) await backend.write(tensor, noise(tensor.shape.reduce((a, b) => a * b, 1), i))
  await backend.write(offsets, Int32Array.of(0, 17, 17, T))
  await backend.write(scale, Float32Array.of(1, 1))
  await backend.write(hyper, Float32Array.of(0.1, 0.1, 0.05))
  const products = await backend.prepare(record('products', (b) => {
    b.linearForward({ y, x, weight })
    b.linearBackwardInput({ dX, dY: y, weight })
    b.groupedLinearForward({ y: slots, x, weight: experts, offsets })
    b.groupedLinearBackwardInput({ dX: dSlots, dY: slots, weight: experts, offsets })
  }))
  const update = await backend.prepare(record('update', (b) => state.forEach((tensors) => b.adamwStep({ ...tensors, scale, hyper, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 }))))
  const found: unknown[] = []
  const run = async (): Promise<void> => {
    await products.run()
    await products.run()
    for (const tensor of [y, dX, slots, dSlots]) found.push(await backend.read(tensor))
  }
  await run()
  for (const tensor of [weight, experts]) await backend.write(tensor, Float32Array.of(9), 5)
  await run()
  await update.run()
  await run()
  const bytes = backend.kernelBytes!()
  await backend.close()
  return { found, bytes }
}

test.each(['float32', 'mixed'] as const)('in %s', async (precision) => {
  const [kept, packedEachTime] = [await outputs(precision, true), await outputs(precision, false)]
  expect(kept.found).toEqual(packedEachTime.found)
  expect(kept.found[0]).not.toEqual(kept.found[4])
  expect(kept.found[4]).not.toEqual(kept.found[8])
  expect(kept.bytes).toBeGreaterThan(packedEachTime.bytes)
})
