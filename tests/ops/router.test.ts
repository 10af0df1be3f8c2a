/** The router's gradient: softmax, gate, load-balancing and z losses together, against central differences. */
import { expect, test } from 'vitest'
import { persistent, type Tensor } from '#core/backend/backend.ts'
import { record } from '#core/backend/record.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { createRandom } from '#core/shared/random.ts'
import { relativeError } from './run-case.ts'

const [T, E, K] = [6, 5, 2]
const [loadBalanceScale, routerZScale] = [0.4, 0.2]

function router(normalise: number) {
  const backend = createReferenceBackend()
  const make = (name: string, ...shape: number[]): Tensor => persistent(name, shape)
  const ints = (name: string, ...shape: number[]): Tensor => persistent(name, shape, 'i32')
  const t = {
    logits: make('logits', T, E), probs: make('probs', T, E), lse: make('lse', T), experts: ints('experts', T, K), gate: make('gate', T, K),
    counts: ints('counts', E), offsets: ints('offsets', E + 1), slotToken: ints('slotToken', T * K), slotIndex: ints('slotIndex', T * K),
    tokenSlot: ints('tokenSlot', T, K), losses: make('losses', 1, 2), dGate: make('dGate', T, K), dLogits: make('dLogits', T, E),
  }
  backend.allocate(Object.values(t))
  const { logits, probs, lse, experts, gate, counts, losses, dGate, dLogits } = t
  const forward = record('forward', (b) => {
    b.routerSoftmaxForward({ probs, lse, logits })
    b.routerTopKForward({ experts, probs })
    b.routerGateForward({ gate, probs, experts, normalise })
    b.moeDispatchForward({ counts, offsets: t.offsets, slotToken: t.slotToken, slotIndex: t.slotIndex, tokenSlot: t.tokenSlot, experts })
    b.routerLossForward({ losses, probs, lse, counts, assignments: T * K, layer: 0 })
  })
  const backward = record('backward', (b) => b.routerBackward({ dLogits, dGate, probs, lse, experts, gate, counts, normalise, loadBalanceScale, routerZScale }))
  return { backend, t, forward, backward }
}

test.each([0, 1])('routerBackward is the derivative of gate, load balance and z (normalise %i)', async (normalise) => {
  const { backend, t, forward, backward } = router(normalise)
  const random = createRandom(3, 'router')
  const logits = Float64Array.from({ length: T * E }, () => random.nextNormal())
  const dGate = Float64Array.from({ length: T * K }, () => random.nextNormal())
  const [runForward, runBackward] = [await backend.prepare(forward), await backend.prepare(backward)]
  const value = async (at: Float64Array): Promise<number> => {
    await backend.write(t.logits, at)
    await runForward.run()
    const [gate, losses] = [await backend.read(t.gate), await backend.read(t.losses)]
    return dGate.reduce((sum, d, i) => sum + d * gate[i]!, 0) + loadBalanceScale * losses[0]! + routerZScale * losses[1]!
  }
  const numeric = new Float64Array(T * E)
  for (let i = 0; i < numeric.length; i++) {
    const moved = (delta: number): Float64Array => logits.map((x, j) => (j === i ? x + delta : x))
    numeric[i] = ((await value(moved(1e-5))) - (await value(moved(-1e-5)))) / 2e-5
  }
  await value(logits)
  await backend.write(t.dGate, dGate)
  await runBackward.run()
  expect(relativeError(await backend.read(t.dLogits), numeric)).toBeLessThan(1e-8)
})

test('a uniform router has load balance 1 and z (ln E)², whatever it chooses', async () => {
  const { backend, t, forward } = router(0)
  await backend.write(t.logits, new Float64Array(T * E))
  await (await backend.prepare(forward)).run()
  const [loadBalance, z] = await backend.read(t.losses)
  expect(loadBalance).toBeCloseTo(1, 12)
  expect(z).toBeCloseTo(Math.log(E) ** 2, 12)
})

test('expertChoiceBackward is the derivative of the chosen probabilities and z', async () => {
  const [sequence, capacity] = [3, 2]
  const slots = (T / sequence) * E * capacity
  const backend = createReferenceBackend()
  const tensor = (name: string, dtype: 'f32' | 'i32', ...shape: number[]): Tensor => persistent(name, shape, dtype)
  const [logits, probs, lse] = [tensor('logits', 'f32', T, E), tensor('probs', 'f32', T, E), tensor('lse', 'f32', T)]
  const [dGate, dLogits] = [tensor('dGate', 'f32', T, E), tensor('dLogits', 'f32', T, E)]
  const [counts, offsets, tokenSlot] = [tensor('counts', 'i32', E), tensor('offsets', 'i32', E + 1), tensor('tokenSlot', 'i32', T, E)]
  const [slotToken, slotIndex] = [tensor('slotToken', 'i32', slots), tensor('slotIndex', 'i32', slots)]
  backend.allocate([logits, probs, lse, dGate, dLogits, counts, offsets, tokenSlot, slotToken, slotIndex])
  const forward = await backend.prepare(record('forward', (b) => {
    b.routerSoftmaxForward({ probs, lse, logits })
    b.expertChoiceForward({ counts, offsets, slotToken, slotIndex, tokenSlot, probs, sequence, capacity })
  }))
  const backward = await backend.prepare(record('backward', (b) => b.expertChoiceBackward({ dLogits, dGate, probs, lse, tokenSlot, routerZScale })))

  const random = createRandom(5, 'expert choice')
  const at = Float64Array.from({ length: T * E }, () => random.nextNormal())
  const upstream = Float64Array.from({ length: T * E }, () => random.nextNormal())
  const value = async (moved: Float64Array): Promise<number> => {
    await backend.write(logits, moved)
    await forward.run()
    const [p, z, slot] = [await backend.read(probs), await backend.read(lse), await backend.read(tokenSlot)]
    return upstream.reduce((sum, d, i) => sum + (slot[i]! < 0 ? 0 : d * p[i]!), 0) + (routerZScale * Float64Array.from(z, (x) => x * x).reduce((sum, x) => sum + x, 0)) / T
  }
  const numeric = new Float64Array(T * E)
  for (let i = 0; i < numeric.length; i++) {
    const moved = (delta: number): Float64Array => at.map((x, j) => (j === i ? x + delta : x))
    numeric[i] = ((await value(moved(1e-5))) - (await value(moved(-1e-5)))) / 2e-5
  }
  await value(at)
  await backend.write(dGate, upstream)
  await backward.run()
  expect(relativeError(await backend.read(dLogits), numeric)).toBeLessThan(1e-8)
})
