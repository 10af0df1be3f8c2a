/**
 * What the CPU backend knows of a gradient besides its numbers: the sums of squares made as a weight gradient is written. They must be
 * those of the numbers, and dropped by whoever changes these.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { elementCount, persistent, type Recording, type Tensor } from '#core/backend/backend.ts'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'

// Widths that fill no tile, more tokens than one block of depth, an expert without tokens and one with few.
const [T, N, J, E] = [1100, 45, 70, 4]
const bounds = [0, 700, 700, 703, T]
const [x, dY, offsets] = [persistent('x', [T, J]), persistent('dY', [T, N]), persistent('offsets', [E + 1], 'i32')]
const states = [[N, J], [E, N, J]].map((shape) => ({ param: persistent('param', shape), m: persistent('m', shape), v: persistent('v', shape), grad: persistent('grad', shape) }))
const [linear, grouped] = states as [(typeof states)[0], (typeof states)[0]]
const [partials, scale, hyper] = [persistent('partials', [2]), persistent('scale', [2]), persistent('hyper', [3])]

const gradients = (b: Recording): void => {
  b.linearBackwardWeight({ dWeight: linear.grad, dY, x })
  b.groupedLinearBackwardWeight({ dWeight: grouped.grad, dY, x, offsets })
}
const squares = (b: Recording): void => states.forEach(({ grad }, index) => b.sumOfSquares({ partials, x: grad, index }))
const update = (b: Recording): void => states.forEach((state) => b.adamwStep({ ...state, scale, hyper, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 }))
const noise = (count: number, seed: number): Float32Array => Float32Array.from({ length: count }, (_, i) => (((i + seed) * 7919) % 1009) / 1009 - 0.5)

async function open(threads = 2): Promise<CpuBackend> {
  const backend = createCpuBackend({ precision: 'mixed', threads })
  backend.allocate([x, dY, offsets, ...states.flatMap((state) => Object.values(state)), partials, scale, hyper])
  for (const [i, tensor] of [x, dY, linear.param, grouped.param].entries()) await backend.write(tensor, noise(elementCount(tensor), i))
  await backend.write(offsets, Int32Array.from(bounds))
  await backend.write(scale, Float32Array.of(1, 1))
  await backend.write(hyper, Float32Array.of(0.1, 0.1, 0.05))
  return backend
}
const run = async (backend: CpuBackend, pass: (b: Recording) => void): Promise<void> => (await backend.prepare(record('pass', pass))).run()
/** Writes what is there already: all that is known of the tensor is dropped. */
const touch = async (backend: CpuBackend, tensors: readonly Tensor[]): Promise<void> => {
  for (const tensor of tensors) await backend.write(tensor, await backend.read(tensor))
}

describe('squares of a gradient, summed as it is written', () => {
  let backend: CpuBackend
  beforeEach(async () => {
    backend = await open()
  })
  afterEach(() => backend.close())

  const compare = async (): Promise<void> => {
    await run(backend, squares)
    const found = await backend.read(partials)
    await touch(backend, states.map(({ grad }) => grad))
    await run(backend, squares)
    const expected = await backend.read(partials)
    expected.forEach((value, i) => expect(Math.abs(found[i]! / value - 1)).toBeLessThan(1e-6))
  }

  test('are those of its numbers: once written, added to, and after an update', async () => {
    await run(backend, update)
    await run(backend, gradients)
    await compare()
    await run(backend, gradients)
    await compare()
    await run(backend, update)
    await run(backend, (b) => [gradients, gradients].forEach((pass) => pass(b)))
    await compare()
  })

  test('are dropped by a write of a part, and have one sum whatever the threads', async () => {
    await run(backend, update)
    await run(backend, gradients)
    await run(backend, squares)
    const sums = await backend.read(partials)
    await backend.write(grouped.grad, Float32Array.of(1000), 7)
    await run(backend, squares)
    expect((await backend.read(partials))[1]! - sums[1]!).toBeGreaterThan(9e5)
    const alone = await open(1)
    for (const pass of [update, gradients, squares]) await run(alone, pass)
    expect(await alone.read(partials)).toEqual(sums)
    await alone.close()
  })
})
