/** The probe on the real engine: its numbers agree with the trainer's plan, a recipe that cannot fit is refused before anything is taken, and nothing is left behind. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startCore, type Core } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import type { ProbeEvent } from '#core/shared/devices.ts'
import { countParameters } from '#core/shared/models.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { makeTinyLibrary, tinyConfig } from './tiny-library.ts'

const places = makeTinyLibrary()
let core: Core
beforeAll(async () => {
  core = await startCore(nodeHost({ kind: 'test', ...places }))
})
afterAll(() => core.close())

async function probe(config: RunConfig): Promise<ProbeEvent[]> {
  const events: ProbeEvent[] = []
  for await (const event of await core.client.devices.probe({ config })) events.push(event)
  return events
}

test('speed, time and memory of a recipe, of which nothing is kept', async () => {
  const config = tinyConfig()
  const events = await probe(config)
  const last = events.at(-1)!
  if (last.type !== 'result') throw new Error(JSON.stringify(last))
  const { tokensPerSecond, stepMs, samples, totalSeconds, memory, device } = last.result
  expect(device).toMatchObject({ kind: 'cpu', precision: 'float32', flopsPerSecond: expect.any(Number) })
  expect(samples).toBeGreaterThan(2)
  expect(stepMs.min).toBeLessThanOrEqual(stepMs.median)
  expect(tokensPerSecond.median * stepMs.median).toBeCloseTo(1000 * config.sequencesPerStep * config.sequenceLength)
  expect(totalSeconds).toBeCloseTo((stepMs.median * config.steps) / 1000)
  const { parts, plannedBytes } = memory
  expect(parts.weights).toBeGreaterThanOrEqual(4 * countParameters(config.model).total)
  expect(parts).toMatchObject({ gradients: parts.weights, optimizer: 2 * parts.weights })
  expect(parts.weights + parts.gradients + parts.optimizer + parts.activations + parts.program).toBe(plannedBytes)
  // A process of Node with the program's code.
  expect(parts.program).toBeGreaterThan(30e6)
  expect(parts.program).toBeLessThan(300e6)
  expect(readdirSync(join(places.libraryPath, 'checkpoints'))).toEqual([])
})

test('a recipe larger than the machine is refused before it is tried, with the memory that it would take', async () => {
  const events = await probe(tinyConfig({ model: { ...tinyConfig().model, hidden_size: 2 ** 17, intermediate_size: 2 ** 15, num_experts: 64 } }))
  expect(events.map(({ type }) => type)).toEqual(['phase', 'phase', 'memory', 'failed'])
  expect(events.at(-1)).toMatchObject({ error: { code: 'backend.memory', params: { sizeBytes: expect.any(Number) } } })
})
