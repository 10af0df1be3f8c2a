/** The pass and the analyses on the oracle's models and the real kernels: routing is PyTorch's, losses are the scorer's, interventions do what they say. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ablateExperts, biasesOf } from '#core/analyze/intervene.ts'
import { createRoutedPass } from '#core/analyze/pass.ts'
import { analyseRouting, type AnalysedModel } from '#core/analyze/routing.ts'
import { routeText } from '#core/analyze/text-routing.ts'
import { givenText } from '#core/analyze/text.ts'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { createScorer } from '#core/evaluate/scorer.ts'
import { openSafetensors } from '#core/formats/safetensors.ts'
import { createSequences } from '#core/model/sequences.ts'
import type { Weights } from '#core/model/parameters.ts'
import { nextTokenRows } from '#core/train/batch.ts'
import { loadModelAs } from '#core/train/load-model.ts'
import { loadModel, readTokenBatch } from '#core/train/weights.ts'

const folder = join(import.meta.dirname, '../fixtures/oracle/tiny')
const { ids, sequence } = readTokenBatch(join(folder, 'forward.safetensors'))
let backend: CpuBackend
let model: AnalysedModel & { weights: Weights }
const words = { encode: (text: string) => [...text].map((c) => c.charCodeAt(0) - 60), decode: (list: readonly number[]) => list.join(' '), createDecoder: () => ({ push: (id: number) => `${id} ` }) }
const cut = { sequence, sequences: 2 }
const options = { ...cut, memoryBytes: 1e9, decode: words.decode }

beforeAll(async () => {
  backend = createCpuBackend({ threads: 2 })
  model = { id: 'tiny', label: 'tiny', step: null, ...(await loadModel(backend, join(folder, 'model'))) }
})
afterAll(() => backend.close())

test("routing is PyTorch's, predictions and losses are those of its logits", async () => {
  const { config, weights } = model
  const pass = await createRoutedPass(backend, config, weights, { sequence, sequences: ids.length / sequence, head: true })
  const { targets } = nextTokenRows(ids, sequence)
  await pass.write(ids, targets)
  await pass.run()
  const seen = await pass.read()
  const oracle = openSafetensors(join(folder, 'forward.safetensors'))
  seen.experts.forEach((experts, layer) => expect([...experts]).toEqual([...oracle.readInt32(`chosen_experts.${layer}`)]))
  const logits = oracle.readFloat32('logits')
  oracle.close()
  const V = config.vocab_size
  for (let t = 0; t < ids.length; t++) {
    const row = logits.subarray(t * V, (t + 1) * V)
    expect(seen.predicted[t]).toBe(row.indexOf(Math.max(...row)))
    if (targets[t]! < 0) continue
    const lse = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0))
    expect(seen.loss[t]!).toBeCloseTo(lse - row[targets[t]!]!, 4)
  }
  pass.release()
})

test('one pass gives every figure; a checkpoint against itself is saturated', async () => {
  const result = (await analyseRouting(backend, model, [model], givenText([...ids], 'text', cut), options))!
  const { counters } = result
  expect(counters.tokens).toBe(ids.length)
  expect(counters.saturation[0]!.topK.every((share) => share === 1)).toBe(true)
  const assigned = counters.domains[0]!.topK.reduce((a, b) => a + b, 0)
  expect(assigned).toBe(ids.length * counters.layers.length * counters.topK)
  const { load_balance: expected } = JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')) as { load_balance: number }
  const { layerLoad } = await import('#core/shared/routing-statistics.ts')
  const mean = counters.layers.reduce((sum, _, layer) => sum + layerLoad(counters, layer).loadBalance, 0) / counters.layers.length
  expect(mean).toBeCloseTo(expected, 5)
  const details = result.details(0)
  expect(details).toHaveLength(counters.experts)
  const first = counters.domains[0]!.top1.slice(0, counters.experts)
  details.forEach(({ sample }, e) => expect(sample).toHaveLength(Math.min(6, first[e]!)))
})

test('too little memory, another shape and too little text are refused', async () => {
  const text = givenText([...ids], 'text', cut)
  await expect(analyseRouting(backend, model, [], text, { ...options, memoryBytes: 1000 })).rejects.toMatchObject({ code: 'analyze.memory' })
  const other = { ...model, config: { ...model.config, num_experts_per_tok: 1 } }
  await expect(analyseRouting(backend, model, [other], text, options)).rejects.toMatchObject({ code: 'analyze.incomparable' })
  expect(() => givenText([1], 'text', cut)).toThrow('fewer than two')
  expect(await analyseRouting(backend, model, [], text, { ...options, isStopped: () => true })).toBeNull()
})

test('an expert that is off is chosen by nobody, a forced one has all the weight, another k is another number of experts', async () => {
  const text = 'abcdefgh'
  const plain = await routeText(backend, model, words, text, null, 4)
  const scores = await createScorer(backend, model.config, model.weights).score([model.config.eos_token_id ?? 0, ...words.encode(text)])
  plain.tokens.forEach((token, i) => expect(token.loss!).toBeCloseTo(-scores[i + 1]!, 4))
  expect(plain.continuation.split(' ')).toHaveLength(4)
  const busiest = plain.tokens[0]!.layers[0]!.experts[0]!
  const off = await routeText(backend, model, words, text, { off: [{ layer: 0, expert: busiest }], force: [], topK: null }, 0)
  expect(off.tokens.every(({ layers }) => !layers[0]!.experts.includes(busiest))).toBe(true)
  expect(off.loss).not.toBeCloseTo(plain.loss!, 6)
  const forced = await routeText(backend, model, words, text, { off: [], force: [{ layer: 1, expert: 3 }], topK: null }, 0)
  forced.tokens.forEach(({ layers }) => expect([layers[1]!.experts[0], layers[1]!.weights[0]]).toEqual([3, 1]))
  const one = await routeText(backend, model, words, text, { off: [], force: [], topK: 1 }, 0)
  one.tokens.forEach(({ layers }, i) => expect(layers[0]!.experts).toEqual(plain.tokens[i]!.layers[0]!.experts.slice(0, 1)))
  expect(() => biasesOf(model.config, { off: [{ layer: 0, expert: 99 }], force: [] })).toThrow('no expert 99')
  const all = Array.from({ length: model.config.num_experts }, (_, expert) => ({ layer: 0, expert }))
  expect(() => biasesOf(model.config, { off: all, force: [] })).toThrow('All experts')
})

test('the ablation table is the loss of one expert switched off at a time', async () => {
  const text = givenText([...ids], 'text', cut)
  const table = (await ablateExperts(backend, model, text, cut))!
  const [domain] = table.domains
  expect(domain!.increase).toHaveLength(table.layers.length * table.experts)
  const pass = await createRoutedPass(backend, model.config, model.weights, { ...cut, head: true, bias: true })
  const meanLoss = async (): Promise<number> => {
    let [sum, n] = [0, 0]
    for (const { ids: batch, targets } of text.batches()) {
      await pass.write(batch, targets)
      await pass.run()
      const { loss } = await pass.read()
      targets.forEach((target, t) => target >= 0 && ((sum += loss[t]!), n++))
    }
    return sum / n
  }
  const plain = await meanLoss()
  expect(domain!.loss).toBeCloseTo(plain, 6)
  await pass.setBias(1, biasesOf(model.config, { off: [{ layer: 1, expert: 2 }], force: [] })[1]!)
  expect(domain!.increase[table.experts + 2]).toBeCloseTo((await meanLoss()) - plain, 6)
  pass.release()
})

test.each(['bf16', 'q8', 'q4'] as const)('a model packed to %s routes as it does when it writes, and takes interventions', async (type) => {
  const { config, weights } = await loadModelAs(backend, join(folder, 'model'), type)
  const sequences = createSequences(backend, config, weights, { count: 1, capacity: sequence })
  const row = ids.subarray(0, sequence)
  const logits = (await sequences.feedAll(0, row)).map((one) => Float32Array.from(one))
  const pass = await createRoutedPass(backend, config, weights, { sequence, sequences: 1, head: true, bias: true })
  await pass.write(row, Int32Array.from(row, (_, t) => row[t + 1] ?? -1))
  await pass.run()
  const seen = await pass.read()
  for (let t = 0; t < sequence; t++) {
    const written = await sequences.routing(t)
    written.forEach(({ experts, weights: gates }, layer) => {
      expect([...seen.experts[layer]!.subarray(t * config.num_experts_per_tok, (t + 1) * config.num_experts_per_tok)]).toEqual(experts)
      gates.forEach((gate, j) => expect(seen.gate[layer]![t * config.num_experts_per_tok + j]).toBeCloseTo(gate, 4))
    })
    if (t + 1 === sequence) continue
    const lse = Math.log(logits[t]!.reduce((sum, x) => sum + Math.exp(x), 0))
    expect(seen.loss[t]).toBeCloseTo(lse - logits[t]![row[t + 1]!]!, 3)
  }
  const off = await routeText(backend, { config, weights }, words, 'ABC', { off: [{ layer: 0, expert: seen.experts[0]![0]! }], force: [{ layer: 1, expert: 2 }], topK: null }, 0)
  expect(off.tokens.every(({ layers }) => !layers[0]!.experts.includes(seen.experts[0]![0]!) && layers[1]!.experts[0] === 2)).toBe(true)
  pass.release()
  sequences.release()
})
