/** Several sequences at once: the same tokens and nearly the same numbers as each alone, in float32 and packed; caches stay apart. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createGenerator } from '#core/model/generator.ts'
import { createSequences } from '#core/model/sequences.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import { loadModel } from '#core/train/weights.ts'

const backend = createCpuBackend({ threads: 2 })
const folder = join(import.meta.dirname, '../fixtures/oracle/tiny/model')
const { greedy } = JSON.parse(readFileSync(join(folder, '../report.json'), 'utf8')) as { greedy: { prompt: number[]; tokens: number[] } }
const argmax = (logits: Float32Array): number => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)))
const prompts = [greedy.prompt, greedy.prompt.slice(0, 3), [5, 4, 3, 2, 1, 9, 8, 7, 6, 11, 12, 13]]
const steps = 8

afterAll(() => backend.close())

describe.each(['f32', 'q8'] as const)('in %s', (type) => {
  const load = async () => (type === 'f32' ? loadModel(backend, folder) : loadPackedModel(backend, folder, type))

  test('three sequences decode as each alone', async () => {
    const { config, weights } = await load()
    const alone: { tokens: number[]; logits: Float32Array }[] = []
    for (const prompt of prompts) {
      const generator = await createGenerator(backend, config, weights, 32)
      const tokens: number[] = []
      let logits = await generator.feed(prompt)
      while (tokens.length < steps) {
        tokens.push(argmax(logits))
        logits = await generator.feed([tokens.at(-1)!])
      }
      alone.push({ tokens, logits: logits.slice() })
      generator.release()
    }

    const sequences = createSequences(backend, config, weights, { count: 3, capacity: 32 })
    let logits: Float32Array[] = []
    for (const [sequence, prompt] of prompts.entries()) logits.push((await sequences.feed(sequence, prompt)).slice())
    const tokens: number[][] = [[], [], []]
    for (let i = 0; i < steps; i++) {
      logits.forEach((of, sequence) => tokens[sequence]!.push(argmax(of)))
      // The order within a step is free.
      const order = i % 2 === 0 ? [0, 1, 2] : [2, 0, 1]
      const found = await sequences.step(order.map((sequence) => ({ sequence, id: tokens[sequence]!.at(-1)! })))
      logits = [0, 1, 2].map((sequence) => found[order.indexOf(sequence)]!)
    }
    expect(tokens).toEqual(alone.map((one) => one.tokens))
    logits.forEach((of, i) => of.forEach((value, v) => expect(value).toBeCloseTo(alone[i]!.logits[v]!, type === 'f32' ? 4 : 1)))
    expect(await sequences.routing(0)).toHaveLength(config.num_hidden_layers)
    sequences.release()
  })
})

test('a sequence is refused what does not fit, and two tokens in a step', async () => {
  const { config, weights } = await loadModel(backend, folder)
  const sequences = createSequences(backend, config, weights, { count: 2, capacity: 4 })
  await sequences.feed(1, [1, 2, 3])
  expect([sequences.length(0), sequences.length(1)]).toEqual([0, 3])
  await expect(sequences.feed(1, [1, 2])).rejects.toThrow('generator: 3 + 2 tokens do not fit 4')
  await expect(sequences.step([{ sequence: 1, id: 1 }, { sequence: 1, id: 2 }])).rejects.toThrow('a step takes one token of a sequence')
  await expect(sequences.feed(2, [1])).rejects.toThrow('there is no sequence 2')
  sequences.truncate(1, 1)
  await sequences.feed(1, [5, 6, 7])
  sequences.release()
})
