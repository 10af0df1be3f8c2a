/**
 * Gradients that AdamW leaves zero on the CPU are neither written nor read again before something overwrites them. Nobody may be able to
 * tell: not a reader, a writer of a part, another op, a second update, nor the next step, whose bits are those of a gradient of real zeros.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { elementCount, persistent, type Recording, type Tensor, type TensorData } from '#core/backend/backend.ts'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'
import { createRandom } from '#core/shared/random.ts'

// More tokens than one block of a product's depth, an expert without tokens, and widths that fill no tile.
const [T, N, J, E, V] = [1100, 45, 70, 3, 64]
const inputs = { dY: persistent('dY', [T, N]), x: persistent('x', [T, J]), head: persistent('head', [V, J]), dLoss: persistent('dLoss', [T]), lse: persistent('lse', [T]) }
const targets = persistent('targets', [T], 'i32')
const offsets = persistent('offsets', [E + 1], 'i32')
const gradients = { linear: persistent('grad.linear', [N, J]), grouped: persistent('grad.grouped', [E, N, J]), head: persistent('grad.head', [V, J]), norm: persistent('grad.norm', [J]) }
const states = Object.values(gradients).map((grad) => ({ grad, param: persistent('param', grad.shape), m: persistent('m', grad.shape), v: persistent('v', grad.shape) }))
const partials = persistent('partials', [states.length])
const scale = persistent('scale', [2])
const hyper = persistent('hyper', [3])

const step = (b: Recording): void => {
  b.linearBackwardWeight({ dWeight: gradients.linear, dY: inputs.dY, x: inputs.x })
  b.groupedLinearBackwardWeight({ dWeight: gradients.grouped, dY: inputs.dY, x: inputs.x, offsets })
  b.headCrossEntropyBackward({ dX: b.scratch('dX', [T, J]), dWeight: gradients.head, x: inputs.x, weight: inputs.head, targets, lse: inputs.lse, dLoss: inputs.dLoss })
  b.rmsNormBackward({ dX: b.scratch('dX', [T, J]), dWeight: gradients.norm, dY: inputs.x, x: inputs.x, weight: states[3]!.param, rstd: inputs.dLoss })
}
const update = (b: Recording): void => states.forEach((state) => b.adamwStep({ ...state, scale, hyper, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 }))
const squares = (b: Recording): void => Object.values(gradients).forEach((x, index) => b.sumOfSquares({ partials, x, index }))

describe.each(['float32', 'mixed'] as const)('in %s', (precision) => {
  let backend: CpuBackend
  const run = async (pass: (b: Recording) => void): Promise<void> => (await backend.prepare(record('pass', pass))).run()
  const read = (tensors: readonly Tensor[]): Promise<TensorData[]> => Promise.all(tensors.map((tensor) => backend.read(tensor)))
  const zeros = Object.values(gradients).map((tensor) => new Float32Array(elementCount(tensor)))

  beforeEach(async () => {
    backend = createCpuBackend({ precision, threads: 2 })
    backend.allocate([...Object.values(inputs), targets, offsets, ...states.flatMap((state) => Object.values(state)), partials, scale, hyper])
    const random = createRandom(1, 'zero-gradients')
    for (const tensor of Object.values(inputs)) await backend.write(tensor, new Float32Array(elementCount(tensor)).map(() => random.nextNormal()))
    await backend.write(targets, Int32Array.from({ length: T }, (_, t) => (t * 37) % V))
    await backend.write(offsets, Int32Array.of(0, 300, 300, T))
    await backend.write(hyper, Float32Array.of(0.1, 0.1, 0.05))
    await backend.write(scale, Float32Array.of(1, 1))
  })
  afterEach(() => backend.close())

  test('what a reader, an op and the writer of a part find are zeros', async () => {
    await run(step)
    const before = await read(Object.values(gradients))
    before.forEach((gradient) => expect(gradient.some((value) => value !== 0)).toBe(true))
    await run(update)
    await run(squares)
    expect([...(await backend.read(partials))]).toEqual([0, 0, 0, 0])
    await run(step)
    await run(update)
    expect(await read(Object.values(gradients))).toEqual(zeros)
    await run(step)
    await run(update)
    await backend.write(gradients.grouped, Float32Array.of(7), 5)
    expect(await backend.read(gradients.grouped)).toEqual(zeros[1]!.map((_, i) => (i === 5 ? 7 : 0)))
  })

  test('the next step gives the bits that it gives on zeros, and adds where it runs twice', async () => {
    await run(step)
    const once = await read(Object.values(gradients))
    await run(step)
    const twice = await read(Object.values(gradients))
    await run(update)
    await run(step)
    expect(await read(Object.values(gradients).slice(0, 3))).toEqual(once.slice(0, 3))
    await run(update)
    await run((b) => {
      step(b)
      step(b)
    })
    expect(await read(Object.values(gradients).slice(0, 3))).toEqual(twice.slice(0, 3))
  })

  test('an update without a gradient is one with zeros, and one that is refused leaves the gradient', async () => {
    await run(step)
    await run(update)
    const kept = await read(states.flatMap(({ param, m, v }) => [param, m, v]))
    await run(update)
    const noted = await read(states.flatMap(({ param, m, v }) => [param, m, v]))
    for (const [i, { param, m, v }] of states.entries()) for (const [j, tensor] of [param, m, v].entries()) await backend.write(tensor, kept[3 * i + j]!)
    for (const [i, { grad }] of states.entries()) await backend.write(grad, zeros[i]!)
    await run(update)
    expect(await read(states.flatMap(({ param, m, v }) => [param, m, v]))).toEqual(noted)
    await run(step)
    const gradient = await read(Object.values(gradients))
    await backend.write(scale, Float32Array.of(Infinity, -1))
    await run(update)
    expect(await read(Object.values(gradients))).toEqual(gradient)
  })
})
