/**
 * Round trips: our folder → Hugging Face, GGUF and ONNX, each read back by ourselves or run by the engine it is for. llama.cpp
 * (node-llama-cpp) and onnxruntime are the real ones.
 */
import { mkdtempSync, readFileSync, readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getLlama } from 'node-llama-cpp'
import { beforeAll, expect, test } from 'vitest'
import { elementCount, type PackedDType } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { createPackedScorer } from '#core/evaluate/packed-scorer.ts'
import { createScorer } from '#core/evaluate/scorer.ts'
import { openOnnxEngine } from '#core/runner/onnx-engine.ts'
import { openGguf } from '#core/formats/gguf-read.ts'
import { createGenerator } from '#core/model/generator.ts'
import { declareWeights, huggingFaceParts } from '#core/model/parameters.ts'
import { AppError } from '#core/shared/errors.ts'
import { modelConfigSchema } from '#core/shared/models.ts'
import { decodeRows, encodeRows } from '#core/shared/quantization.ts'
import { exportGguf } from '#core/train/export/gguf.ts'
import { exportHuggingFace } from '#core/train/export/hugging-face.ts'
import { exportOnnx } from '#core/train/export/onnx.ts'
import { readGgufTokenizer } from '#core/train/gguf-model.ts'
import { openModelSource, readConfigOf } from '#core/train/model-source.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import { loadModel } from '#core/train/weights.ts'
import { smallConfig, writeSmallModel, writeTrainedModel } from './small-model.ts'

const folder = mkdtempSync(join(tmpdir(), 'moe-exports-'))
const model = join(folder, 'own')
const ids = [0, 45, 300, 17, 260, 91, 333, 5, 5, 120, 77, 210, 38]

const trained = join(folder, 'trained')

beforeAll(async () => {
  await writeSmallModel(model)
  await writeTrainedModel(trained)
})

async function scores(path: string): Promise<number[]> {
  const backend = createCpuBackend({})
  const { config, weights } = await loadModel(backend, path)
  const found = await createScorer(backend, config, weights).score(ids)
  await backend.close()
  return found.slice(1) as number[]
}
async function packedScores(path: string, type: PackedDType): Promise<number[]> {
  const backend = createCpuBackend({})
  const { config, weights } = loadPackedModel(backend, path, type)
  const found = await createPackedScorer(backend, config, weights).score(ids)
  await backend.close()
  return found.slice(1) as number[]
}
const worst = (a: readonly number[], b: readonly number[]): number => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))

test('own → Hugging Face in float32 → own: the same log-probabilities, from shards with their index', async () => {
  const out = join(folder, 'hf32')
  const files = await exportHuggingFace(model, out, { dtype: 'f32', shardBytes: 200_000 })
  expect(Object.keys(files).sort()).toEqual(readdirSync(out).sort())
  const { weight_map: map } = JSON.parse(readFileSync(join(out, 'model.safetensors.index.json'), 'utf8')) as { weight_map: Record<string, string> }
  expect(new Set(Object.values(map)).size).toBeGreaterThan(2)
  expect(map['model.layers.1.mlp.experts.7.down_proj.weight']).toMatch(/^model-0000\d-of-0000\d\.safetensors$/)
  expect(await scores(out)).toEqual(await scores(model))
})

test('own → Hugging Face in bf16 → own: what rounding every weight to bf16 gives', async () => {
  const out = join(folder, 'hf16')
  await exportHuggingFace(model, out)
  expect(JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'))).toMatchObject({ architectures: ['OlmoeForCausalLM'], model_type: 'olmoe', torch_dtype: 'bfloat16', num_experts: 8 })
  const [from, to] = [openModelSource(model), openModelSource(out)]
  for (const { parts } of huggingFaceParts(smallConfig, declareWeights(smallConfig))) {
    for (const { name, shape } of parts) expect(to.read(name, shape), name).toEqual(decodeRows('bf16', encodeRows('bf16', from.read(name, shape), elementCount(shape))))
  }
  from.close()
  to.close()
})

test.each(['bf16', 'q8', 'q4'] as const)('own → GGUF in %s → own: the packed numbers move as they are', async (type) => {
  const out = join(folder, `own-${type}.gguf`)
  await exportGguf(model, out, type)
  expect(readConfigOf(out)).toMatchObject({ ...smallConfig, initializer_range: 0.02 })
  expect(await packedScores(out, type)).toEqual(await packedScores(model, type))
  const [file, tokenizer] = [openGguf(out), loadTokenizer(join(model, 'tokenizer.json'))]
  const read = readGgufTokenizer(file)
  file.close()
  expect(read.model.merges.length).toBe(tokenizer.json.model.merges.length)
  expect(read.added_tokens.map(({ id, content, special }) => [id, content, special])).toEqual(tokenizer.json.added_tokens.map(({ id, content, special }) => [id, content, special]))
})

test.each(['bf16', 'q8', 'q4'] as const)('own → GGUF in %s → llama.cpp: greedy text equal', { timeout: 60_000 }, async (type) => {
  const out = join(folder, `llama-${type}.gguf`)
  await exportGguf(trained, out, type, { name: 'small' })
  const tokenizer = loadTokenizer(join(trained, 'tokenizer.json'))
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false, logLevel: 'error' as never })
  const loaded = await llama.loadModel({ modelPath: out, gpuLayers: 0 })
  const context = await loaded.createContext({ contextSize: 128, threads: 1 })
  const prompt = [0, ...tokenizer.encode('The experts of a layer')]
  expect([...loaded.tokenize('The experts of a layer, 数据 if (x')]).toEqual([...tokenizer.encode('The experts of a layer, 数据 if (x')])
  const theirs: number[] = []
  for await (const token of context.getSequence().evaluate(prompt as never[], { temperature: 0, yieldEogToken: true })) {
    theirs.push(token)
    if (theirs.length === 20) break
  }
  await context.dispose()
  await loaded.dispose()
  const backend = createCpuBackend({})
  const { config, weights } = loadPackedModel(backend, trained, type)
  const generator = await createGenerator(backend, config, weights, 128)
  const ours: number[] = []
  for (let logits = await generator.feed(prompt); ours.length < 20; logits = await generator.feed([ours.at(-1)!])) ours.push(logits.indexOf(Math.max(...logits)))
  await backend.close()
  expect(tokenizer.decode(ours)).toMatch(/^ are chosen by a router; each/)
  expect(tokenizer.decode(theirs)).toBe(tokenizer.decode(ours))
  expect(theirs).toEqual(ours)
})

test.each(['operator', 'plain'] as const)('own → ONNX (experts: %s) → onnxruntime, fed in two pieces through its cache', async (experts) => {
  const out = join(folder, `onnx-${experts}`)
  await exportOnnx(model, out, { experts })
  const engine = await openOnnxEngine(out)
  const logits = [...(await engine.feedAll(ids.slice(0, 5))), ...(await engine.feedAll(ids.slice(5)))]
  await engine.close()
  const logProbability = (row: Float32Array, id: number): number => row[id]! - Math.max(...row) - Math.log(row.reduce((sum, x) => sum + Math.exp(x - Math.max(...row)), 0))
  expect(worst(ids.slice(1).map((id, t) => logProbability(logits[t]!, id)), await scores(model))).toBeLessThan(2e-5)
})

test('grouped keys, a normalised gate and a variant: ONNX takes the first two, GGUF names what it has no place for', async () => {
  const grouped = join(folder, 'grouped')
  const config = modelConfigSchema.parse({ ...smallConfig, num_key_value_heads: 2, norm_topk_prob: true })
  await writeSmallModel(grouped, config)
  await expect(exportGguf(grouped, join(folder, 'no.gguf'), 'bf16')).rejects.toThrowError(expect.objectContaining({ code: 'export.notOlmoe', params: expect.objectContaining({ field: 'norm_topk_prob' }) as object }) as Error)
  await exportOnnx(grouped, join(folder, 'grouped-onnx'))
  const engine = await openOnnxEngine(join(folder, 'grouped-onnx'))
  const logits = await engine.feedAll(ids)
  await engine.close()
  const own = await scores(grouped)
  const found = ids.slice(1).map((id, t) => logits[t]![id]! - Math.log(logits[t]!.reduce((sum, x) => sum + Math.exp(x), 0)))
  expect(worst(found, own)).toBeLessThan(2e-5)
})

test('a tensor that is missing or misshapen is named', async () => {
  const out = join(folder, 'own-bf16.gguf')
  const source = openModelSource(out)
  expect(() => source.read('model.layers.9.mlp.gate.weight', [8, 64])).toThrowError(/blk.9.ffn_gate_inp.weight is missing/)
  expect(() => source.read('model.layers.0.mlp.gate.weight', [4, 64])).toThrowError(/is \[8, 64\], expected \[4, 64\]/)
  expect(() => source.read('model.layers.0.mlp.experts.8.up_proj.weight', [32, 64])).toThrow(AppError)
  source.close()
})
