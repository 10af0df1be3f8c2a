/** A head's forward and backward in one plan: when they are fused, and that the fused op gives what the two give. */
import { expect, test } from 'vitest'
import { persistent, type Tensor, type TensorData } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { fuseHeads } from '#core/backend/fuse.ts'
import { record } from '#core/backend/record.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { createRandom } from '#core/shared/random.ts'
import { relativeError } from './run-case.ts'

const [T, D, V] = [530, 40, 307]
const names = { x: [T, D], weight: [V, D], dLoss: [T], sum: [1], dWeight: [V, D], out: [T, D], lossOut: [1] }
const tensors = Object.fromEntries(Object.entries(names).map(([name, shape]) => [name, persistent(name, shape)])) as Record<keyof typeof names, Tensor>
const targets = persistent('targets', [T], 'i32')

/** Forward, its weighted loss, backward, and the backward's dX copied out; `between` stands before the backward. */
const plan = (between: 'nothing' | 'a write of dWeight' = 'nothing', readsLoss = true) =>
  record('head', (b) => {
    const [loss, lse, dX] = [b.scratch('loss', [T]), b.scratch('lse', [T]), b.scratch('dX', [T, D])]
    b.headCrossEntropyForward({ loss, lse, x: tensors.x, weight: tensors.weight, targets })
    if (readsLoss) b.weightedSumForward({ sum: tensors.sum, values: loss, weights: tensors.dLoss })
    if (between !== 'nothing') b.linearBackwardWeight({ dWeight: tensors.dWeight, dY: b.scratch('zero', [T, V]), x: tensors.x })
    b.headCrossEntropyBackward({ dX, dWeight: tensors.dWeight, x: tensors.x, weight: tensors.weight, targets, lse, dLoss: tensors.dLoss })
    b.gatherRowsForward({ y: tensors.out, x: dX, rows: targets })
  })

test('a backward moves up beside its forward where nothing in between could tell', () => {
  const { plan: fusedPlan, fused } = fuseHeads(plan())
  expect(fused.size).toBe(1)
  expect(fusedPlan.records.map(({ op }) => op)).toEqual(['headCrossEntropyForward', 'headCrossEntropyBackward', 'weightedSumForward', 'gatherRowsForward'])
  for (const other of [plan('a write of dWeight'), plan('nothing', false)]) {
    const unfused = fuseHeads(other)
    expect(unfused.fused.size).toBe(0)
    expect(unfused.plan.records).toEqual(other.records)
  }
})

test.each([['float32', 4e-6], ['mixed', 2e-2]] as const)('fused in %s it gives what the referee gives, the same bits whatever the thread count', async (precision, tolerance) => {
  const random = createRandom(5, 'fuse')
  const given = {
    x: new Float32Array(T * D).map(() => random.nextNormal()),
    weight: new Float32Array(V * D).map(() => 0.3 * random.nextNormal()),
    dLoss: new Float32Array(T).map(() => random.nextFloat()),
    dWeight: new Float32Array(V * D).map(() => random.nextNormal()),
  }
  const run = async (backend: ReturnType<typeof createCpuBackend> | ReturnType<typeof createReferenceBackend>): Promise<TensorData[]> => {
    backend.allocate([...Object.values(tensors), targets])
    for (const [name, data] of Object.entries(given)) await backend.write(tensors[name as keyof typeof given], data)
    await backend.write(targets, Int32Array.from({ length: T }, (_, t) => (t * 37) % V))
    await (await backend.prepare(plan())).run()
    const found = await Promise.all([tensors.sum, tensors.out, tensors.dWeight].map((tensor) => backend.read(tensor)))
    await backend.close()
    return found
  }
  const expected = await run(createReferenceBackend())
  const found: TensorData[][] = []
  for (const threads of [1, 2, 3]) {
    const backend = createCpuBackend({ threads, precision })
    found.push(await run(backend))
  }
  expected.forEach((values, i) => expect(relativeError(found[0]![i]!, values)).toBeLessThan(tolerance))
  for (const other of found.slice(1)) expect(other).toEqual(found[0])
})
