/**
 * A whole small training on a software GPU: its curve follows the CPU's, its memory is what was planned, its numbers come back in one
 * transfer per reporting interval, and a device that is lost in mid-run costs nothing but the steps since the checkpoint: the CPU
 * goes on from there. Trainer, loop and checkpoints are the real ones; only the texts are made up. Draws tests/.output/gpu-curves.svg.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Backend } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import type { WebGpuBackend } from '#core/backend/webgpu/webgpu.ts'
import { listWeights } from '#core/model/parameters.ts'
import { createRandom } from '#core/shared/random.ts'
import type { StepRecord } from '#core/shared/runs.ts'
import { resumeCheckpoint, writeCheckpoint } from '#core/train/checkpoint.ts'
import { runTraining, type LoopState } from '#core/train/loop.ts'
import { createTrainer, type MicroBatch, type Trainer } from '#core/train/trainer.ts'
import { drawWeights } from '#core/train/weights.ts'
import { tinyConfig } from '../runs/tiny-library.ts'
import { nameMissingGpus, patienceMs, plain, testGpus } from './adapters.ts'

const steps = 36
const config = tinyConfig({ steps, sequencesPerMicroBatch: null, checkpointEverySteps: 12, evaluateEverySteps: 0, optimizer: { peakLearningRate: 1e-2, warmupSteps: 5, schedule: 'constant' } })
const tokensPerStep = config.sequencesPerStep * config.sequenceLength
const folder = mkdtempSync(join(tmpdir(), 'moe-gpu-'))
const tokenizerPath = join(folder, 'tokenizer.json')
const curves: Record<string, number[]> = {}

/** Sequences that count on from a random start by one of two strides: something to learn. */
function batchAt(position: number): MicroBatch {
  const random = createRandom(3, `batch ${position}`)
  const ids = new Int32Array(tokensPerStep)
  for (let at = 0; at < tokensPerStep; at += config.sequenceLength) {
    let token = random.nextBelow(48)
    const stride = 1 + random.nextBelow(2)
    for (let t = 0; t < config.sequenceLength; t++, token = (token + stride) % 48) ids[at + t] = token
  }
  const isLast = (t: number): boolean => t % config.sequenceLength === config.sequenceLength - 1
  const counted = tokensPerStep - config.sequencesPerStep
  return { ids, targets: ids.map((_, t) => (isLast(t) ? -1 : ids[t + 1]!)), lossWeights: Float32Array.from(ids, (_, t) => (isLast(t) ? 0 : 1 / counted)) }
}

async function openTrainer(backend: Backend): Promise<Trainer> {
  const trainer = await createTrainer(backend, { ...config, sequencesPerMicroBatch: config.sequencesPerStep, microBatchesPerStep: 1 })
  await drawWeights(backend, config.model, trainer.weights, config.seed)
  return trainer
}

/** Trains from `start`; gives the records, and leaves checkpoints in the test's folder. */
async function train(backend: Backend, trainer: Trainer, start: LoopState, name: string, onStep: (record: StepRecord) => void, until = steps): Promise<void> {
  await runTraining(trainer, { ...config, steps: until }, start, {
    stepBatch: async (position) => ({ micros: [batchAt(position)] }),
    evaluate: async () => ({}),
    reportEveryMs: 100,
    peakFlopsPerSecond: null,
    stopRequest: () => 'none',
    onStep,
    async checkpoint(state) {
      const identity = { id: `${name}-${state.step}`, runId: name, createdAt: 0, codeVersion: 'test', mixId: 'made', mixHash: 'f'.repeat(64), parentId: null, validationLoss: null }
      await writeCheckpoint(backend, trainer, { ...state, rng: createRandom(1, 'run').state(), config, records: [] }, identity, folder, { tokenizerPath })
    },
    now: () => performance.now(),
  })
}

const zero: LoopState = { step: 0, tokens: 0, seconds: 0, loaderPosition: 0, earlierSteps: 0 }
const lossesOf = (records: StepRecord[]): number[] => records.filter(({ step }) => step > 0).map(({ scalars }) => scalars.loss!)
/** Largest relative difference of two curves. */
const apart = (a: number[], b: number[]): number => Math.max(...a.map((value, i) => Math.abs(value / b[i]! - 1)))

beforeAll(async () => {
  writeFileSync(tokenizerPath, '{}')
  const backend = createCpuBackend({ threads: 2 })
  const records: StepRecord[] = []
  await train(backend, await openTrainer(backend), zero, 'cpu', (record) => records.push(record))
  await backend.close()
  curves.CPU = lossesOf(records)
  expect(curves.CPU.at(-1)!).toBeLessThan(curves.CPU[0]! - 2)
})

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
  drawCurves()
})

vi.setConfig({ testTimeout: patienceMs })
nameMissingGpus('a small training')

describe.each(testGpus)('$name', (gpu) => {
  let backend: WebGpuBackend

  test('the curve follows the CPU’s, to the same bits in every run', async () => {
    backend = await gpu.open()
    const trainer = await openTrainer(backend)
    const before = backend.counts()
    const records: StepRecord[] = []
    await train(backend, trainer, zero, gpu.name, (record) => records.push(record))
    curves[gpu.name] = lossesOf(records)
    expect(records.at(-1)!.step).toBe(steps)
    expect(apart(curves[gpu.name]!.slice(0, 10), curves.CPU!.slice(0, 10))).toBeLessThan(1e-4)
    expect(apart(curves[gpu.name]!, curves.CPU!)).toBeLessThan(2e-2)

    const counts = backend.counts()
    const dispatchesPerStep = (counts.dispatches - before.dispatches) / steps
    console.log(`${gpu.name}: ${dispatchesPerStep} dispatches and ${(counts.submits - before.submits) / steps} submits of a plan per step; memory held ${backend.heldBytes()} bytes, planned ${trainer.plannedBytes}`)
    expect(dispatchesPerStep).toBeLessThan(400)
    expect(backend.heldBytes()).toBeGreaterThanOrEqual(trainer.plannedBytes * 0.99)
    // Beside the plan: parameters of dispatches, room to read back, bindings of what is left out.
    expect(backend.heldBytes() - trainer.plannedBytes).toBeLessThan(4 << 20)
    trainer.release()

    const again: StepRecord[] = []
    await train(backend, await openTrainer(backend), zero, `${gpu.name}-again`, (record) => again.push(record), 8)
    expect(lossesOf(again)).toEqual(curves[gpu.name]!.slice(0, 8))
  })

  test('nothing is read back while steps run, then losses and counters in one transfer', async () => {
    const trainer = await openTrainer(backend)
    const before = backend.counts().readBytes
    const underWay = []
    for (let step = 1; step <= 4; step++) underWay.push(await trainer.accumulate([batchAt(step)]), await trainer.update(1e-3, step))
    expect(backend.counts().readBytes).toBe(before)
    await underWay.at(-1)!.read()
    const bytes = backend.counts().readBytes - before
    for (const pending of underWay) await pending.read()
    expect(backend.counts().readBytes - before).toBe(bytes)
    const { num_hidden_layers: L, num_experts: E } = config.model
    expect(bytes).toBe(4 * 4 * (1 + 2 * L + L * E + 2))
    console.log(`${gpu.name}: ${bytes / 4} bytes read back per step`)
    await backend.close()
  })

  test('a device that is lost stops the run at its last checkpoint, and the CPU goes on from there', async () => {
    backend = await gpu.open()
    const records: StepRecord[] = []
    const lost = train(backend, await openTrainer(backend), zero, `${gpu.name}-lost`, (record) => {
      records.push(record)
      if (record.step >= 16) backend.device.destroy()
    })
    await expect(lost).rejects.toMatchObject({ code: 'device.lost' })
    expect(records.at(-1)!.step).toBeGreaterThanOrEqual(16)
    expect(records.at(-1)!.step).toBeLessThan(steps)
    await expect(backend.read(listWeights((await openTrainer(createCpuBackend())).weights)[0]!)).rejects.toMatchObject({ code: 'device.lost' })

    const cpu = createCpuBackend({ threads: 2 })
    const trainer = await openTrainer(cpu)
    const { step, tokens, seconds, loaderPosition } = await resumeCheckpoint(cpu, trainer, join(folder, `${gpu.name}-lost-12`))
    expect(step).toBe(12)
    const rest: StepRecord[] = []
    await train(cpu, trainer, { step, tokens, seconds, loaderPosition, earlierSteps: 0 }, `${gpu.name}-rest`, (record) => rest.push(record))
    expect(rest[0]!.step).toBe(13)
    expect(apart(lossesOf(rest), curves.CPU!.slice(12))).toBeLessThan(2e-2)
    await cpu.close()
  })

  test('out of memory and a tensor that does not fit are said before anything runs', async () => {
    backend = await gpu.open({ budgetBytes: 1 << 20 })
    await expect(openTrainer(backend)).rejects.toMatchObject({ code: 'backend.memory' })
    await backend.close()
    backend = await gpu.open({ variants: plain, maxBindingBytes: 4096 })
    await expect(openTrainer(backend)).rejects.toMatchObject({ code: 'backend.tensorTooLarge' })
    await backend.close()
  })
})

/** All curves on one picture. */
function drawCurves(): void {
  const [width, height, left, bottom] = [900, 420, 60, 40]
  const colours = ['#64748b', '#2563eb', '#d97706']
  const top = Math.max(...Object.values(curves).flat())
  const x = (step: number): number => left + (step / (steps - 1)) * (width - left - 20)
  const y = (loss: number): number => 20 + (1 - loss / top) * (height - bottom - 20)
  const lines = Object.entries(curves).map(([name, losses], i) => {
    const points = losses.map((loss, step) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(' ')
    return `<polyline points="${points}" fill="none" stroke="${colours[i]}" stroke-width="${7 - 2.5 * i}" opacity="0.85"/><text x="${width - 260}" y="${60 + 26 * i}" fill="${colours[i]}">${name}, step ${losses.length}: ${losses.at(-1)!.toFixed(4)}</text>`
  })
  const ticks = [0, 1, 2, 3, 4, 5, 6].filter((loss) => loss < top).map((loss) => `<text x="${left - 24}" y="${y(loss) + 5}" fill="#475569">${loss}</text><line x1="${left}" x2="${width - 20}" y1="${y(loss)}" y2="${y(loss)}" stroke="#e2e8f0"/>`)
  const output = join(import.meta.dirname, '../.output')
  mkdirSync(output, { recursive: true })
  writeFileSync(join(output, 'gpu-curves.svg'), `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="15"><rect width="100%" height="100%" fill="white"/>${ticks.join('')}${lines.join('')}<text x="${left}" y="${height - 10}" fill="#475569">cross-entropy by step: ${config.model.num_hidden_layers} layers, ${config.model.num_experts} experts, ${tokensPerStep} tokens a step</text></svg>\n`)
}
