/**
 * Packed models against the float32 path on the oracle models: log-probabilities close in bf16 and 8 bits, and near in 4; a mapped
 * file computes the same bits as the same weights packed in memory.
 */
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { PackedDType } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { createPackedScorer } from '#core/evaluate/packed-scorer.ts'
import { createScorer } from '#core/evaluate/scorer.ts'
import { createGenerator } from '#core/model/generator.ts'
import { loadPackedModel, packModel } from '#core/train/packed-weights.ts'
import { loadModel } from '#core/train/weights.ts'

const backend = createCpuBackend({ threads: 2 })
const scratch = mkdtempSync(join(tmpdir(), 'moe-packed-model-'))
const folderOf = (name: string): string => join(import.meta.dirname, '../fixtures/oracle', name, 'model')
const greedyOf = (name: string): { prompt: number[]; tokens: number[] } => (JSON.parse(readFileSync(join(folderOf(name), '../report.json'), 'utf8')) as { greedy: { prompt: number[]; tokens: number[] } }).greedy

afterAll(() => backend.close())

/** Largest difference of log-probabilities that the rounding of weights and activations may make on these models. */
const allowed: Record<PackedDType, number> = { bf16: 0.03, q8: 0.06, q4: 0.6 }

describe.each(['tiny', 'fine_grained', 'dense'])('%s', (name) => {
  const { prompt, tokens } = greedyOf(name)
  const ids = [...prompt, ...tokens]

  test.each<PackedDType>(['bf16', 'q8', 'q4'])('in %s', async (type) => {
    const full = await loadModel(backend, folderOf(name))
    const expected = await createScorer(backend, full.config, full.weights).score(ids)
    const { config, weights } = loadPackedModel(backend, folderOf(name), type)
    const found = await createPackedScorer(backend, config, weights).score(ids)
    expect(found[0]).toBeNull()
    const differences = found.slice(1).map((value, i) => Math.abs(value! - expected[i + 1]!))
    expect(Math.max(...differences)).toBeLessThan(allowed[type])
    expect(Math.max(...differences)).toBeGreaterThan(0)
  })

  test('bf16 on the referee is bf16 on the CPU', async () => {
    const reference = createReferenceBackend()
    const logits = await Promise.all([backend, reference].map(async (on) => {
      const { config, weights } = loadPackedModel(on, folderOf(name), 'bf16')
      return (await createGenerator(on, config, weights, ids.length)).feed(ids)
    }))
    logits[0]!.forEach((value, i) => expect(value).toBeCloseTo(logits[1]![i]!, 4))
  })

  test('quantised, written and mapped, it computes the same bits', async () => {
    const out = join(scratch, name)
    const { sizeBytes } = await packModel(folderOf(name), 'q4', out, () => undefined)
    expect(sizeBytes).toBeGreaterThan(0)
    const logits = await Promise.all([folderOf(name), out].map(async (folder) => {
      const own = createCpuBackend({ threads: 2 })
      const { config, weights } = loadPackedModel(own, folder, 'q4')
      const last = await (await createGenerator(own, config, weights, ids.length)).feed(ids)
      await own.close()
      return last
    }))
    expect(logits[1]).toEqual(logits[0])
    expect(() => loadPackedModel(backend, out, 'q8')).toThrow(expect.objectContaining({ code: 'model.otherType' }))
  })
})
