/**
 * What an analysis costs beside a plain forward pass (the same batches, loss only): random weights in the shape of the quick start's model,
 * random text. Both in turns, the median of the ratios.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createCounters } from '#core/analyze/counters.ts'
import { createRoutedPass, routingShape } from '#core/analyze/pass.ts'
import { persistent, type Backend } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'
import { modelForward } from '#core/model/olmoe.ts'
import { declareWeights, listWeights, type Weights } from '#core/model/parameters.ts'
import { modelConfigSchema, type ModelConfig } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { drawWeights } from '#core/train/weights.ts'
import { median } from './measure.ts'

const [sequence, sequences, rounds] = [256, 8, 9]

/** Milliseconds of a forward pass that gives the loss of every target. */
async function plainPass(backend: Backend, c: ModelConfig, weights: Weights, ids: Int32Array, targets: Int32Array): Promise<() => Promise<number>> {
  const T = ids.length
  const tensors = { ids: persistent('ids', [T], 'i32'), positions: persistent('positions', [T], 'i32'), targets: persistent('targets', [T], 'i32'), loss: persistent('loss', [T]) }
  backend.allocate(Object.values(tensors))
  const plan = await backend.prepare(
    record('plain', (b) => {
      const { final } = modelForward(b, c, weights, { ids: tensors.ids, positions: tensors.positions, sequence })
      b.headCrossEntropyForward({ loss: tensors.loss, lse: b.scratch('lse', [T]), x: final, weight: weights.head, targets: tensors.targets })
    }),
  )
  await backend.write(tensors.positions, Int32Array.from({ length: T }, (_, t) => t % sequence))
  return async () => {
    const startedAt = performance.now()
    await backend.write(tensors.ids, ids)
    await backend.write(tensors.targets, targets)
    await plan.run()
    await backend.read(tensors.loss)
    return performance.now() - startedAt
  }
}

export type Overhead = { plainMs: number; analysedMs: number; spreadMs: [number, number]; ratio: number }

/** Medians over rounds that take turns; an analysed round counts its own batch, beside nothing. */
export async function measureOverhead(): Promise<Overhead> {
  const c = modelConfigSchema.parse((JSON.parse(readFileSync(join(import.meta.dirname, '../../resources/presets/quickstart.json'), 'utf8')) as { model: unknown }).model)
  const backend = createCpuBackend({})
  const weights = declareWeights(c)
  backend.allocate(listWeights(weights))
  await drawWeights(backend, c, weights, 1)
  const random = createRandom(1, 'bench/analysis')
  const ids = Int32Array.from({ length: sequence * sequences }, () => Math.floor(c.vocab_size * random.nextFloat() ** 3))
  const targets = ids.map((_, t) => ((t + 1) % sequence === 0 ? -1 : ids[t + 1]!)) as Int32Array<ArrayBuffer>
  const plain = await plainPass(backend, c, weights, ids, targets)
  const pass = await createRoutedPass(backend, c, weights, { sequence, sequences, head: true })
  const counters = createCounters(routingShape(c), ['text'])
  const segments = Array.from({ length: sequences }, (_, i) => ({ from: i * sequence, to: (i + 1) * sequence, domain: 0 }))
  const analysed = async (): Promise<number> => {
    const startedAt = performance.now()
    await pass.write(ids, targets)
    await pass.run()
    counters.add(await pass.read(), segments)
    return performance.now() - startedAt
  }
  const times: [number, number][] = []
  for (let round = 0; round < rounds + 2; round++) times.push([await plain(), await analysed()])
  await backend.close()
  const kept = times.slice(2)
  const analysedTimes = kept.map(([, b]) => b)
  return { spreadMs: [Math.min(...analysedTimes), Math.max(...analysedTimes)], plainMs: median(kept.map(([a]) => a)), analysedMs: median(analysedTimes), ratio: median(kept.map(([a, b]) => b / a)) }
}
