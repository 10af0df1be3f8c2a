/**
 * Runs an exported ONNX model (core/train/export/onnx.ts has its inputs and outputs) in onnxruntime: a second engine for chat, and the
 * referee of the export. One sequence; its cache is kept here between calls. It loads no native code before it is asked to.
 */
import { join } from 'node:path'
import type * as Runtime from 'onnxruntime-node'
import type { InferenceSession, Tensor, TypedTensor } from 'onnxruntime-node'
import type { Generator } from '#core/model/generator.ts'
import { headWidth } from '#core/model/parameters.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { onnxFileName } from '#core/train/export/onnx.ts'
import { readModelConfig } from '#core/train/model-source.ts'

export const onnxProviders = ['cpu', 'webgpu'] as const
export type OnnxProvider = (typeof onnxProviders)[number]

export type OnnxEngine = Generator & {
  readonly config: ModelConfig
  /** As feed, but the logits after every one of the tokens. */
  feedAll(ids: ArrayLike<number>): Promise<Float32Array[]>
  close(): Promise<void>
}

type Cache = { data: Float32Array; length: number }

/** The first `length` positions of a cache [G, old, W]. */
function shorten({ data, length: old }: Cache, groups: number, width: number, length: number): Cache {
  const out = new Float32Array(groups * length * width)
  for (let g = 0; g < groups; g++) out.set(data.subarray(g * old * width, (g * old + length) * width), g * length * width)
  return { data: out, length }
}

/** Experts and gates of one row of raw router logits, strongest first: softmax over all, then the k largest. */
function routeRow(logits: Float32Array, c: ModelConfig): { experts: number[]; weights: number[] } {
  const largest = Math.max(...logits)
  const exps = Array.from(logits, (x) => Math.exp(x - largest))
  const sum = exps.reduce((a, b) => a + b, 0)
  const experts = exps.map((_, e) => e).sort((a, b) => exps[b]! - exps[a]! || a - b).slice(0, c.num_experts_per_tok)
  const weights = experts.map((e) => exps[e]! / sum)
  const total = c.norm_topk_prob ? weights.reduce((a, b) => a + b, 0) : 1
  return { experts, weights: weights.map((weight) => weight / total) }
}

/** Opens the folder of an exported model. Throws `onnx.unavailable` when onnxruntime or the file cannot be loaded. */
export async function openOnnxEngine(folder: string, { provider = 'cpu', threads = 0 }: { provider?: OnnxProvider; threads?: number } = {}): Promise<OnnxEngine> {
  const config = readModelConfig(folder)
  const [G, W, V, L, E] = [config.num_key_value_heads, headWidth(config), config.vocab_size, config.num_hidden_layers, config.num_experts]
  const failed = (error: unknown): AppError =>
    new AppError('onnx.unavailable', `${join(folder, onnxFileName)}: ${(error as Error).message}`, { params: { file: join(folder, onnxFileName), provider, found: (error as Error).message }, hint: provider === 'cpu' ? 'Export the model again.' : 'This device cannot run it; choose the CPU.', cause: error })
  let runtime: typeof Runtime
  let session: InferenceSession
  try {
    runtime = await import('onnxruntime-node')
    session = await runtime.InferenceSession.create(join(folder, onnxFileName), { executionProviders: [provider], intraOpNumThreads: threads, logSeverityLevel: 3 })
  } catch (error) {
    throw failed(error)
  }
  const names = Array.from({ length: L }, (_, layer) => ['key', 'value'].map((what) => `${layer}.${what}`)).flat()
  let cache = new Map<string, Cache>(names.map((name) => [name, { data: new Float32Array(0), length: 0 }]))
  let [length, routers]: [number, Float32Array[]] = [0, []]

  const run = async (ids: ArrayLike<number>): Promise<Float32Array> => {
    if (length + ids.length > config.max_position_embeddings) throw new Error(`onnx engine: ${length + ids.length} tokens exceed ${config.max_position_embeddings}`)
    const integers = (of: (i: number) => number): Tensor => new runtime.Tensor('int64', BigInt64Array.from({ length: ids.length }, (_, i) => BigInt(of(i))), [1, ids.length])
    const feeds: Record<string, Tensor> = { input_ids: integers((i) => ids[i]!), position_ids: integers((i) => length + i) }
    for (const [name, { data, length: past }] of cache) feeds[`past.${name}`] = new runtime.Tensor('float32', data, [1, G, past, W])
    const outputs = (await session.run(feeds)) as Record<string, TypedTensor<'float32'>>
    length += ids.length
    cache = new Map(names.map((name) => [name, { data: outputs[`present.${name}`]!.data, length }]))
    routers = Array.from({ length: L }, (_, layer) => outputs[`router.${layer}`]!.data.subarray((ids.length - 1) * E))
    return outputs.logits!.data
  }
  return {
    config,
    get length() {
      return length
    },
    capacity: config.max_position_embeddings,
    feed: async (ids) => (await run(ids)).subarray((ids.length - 1) * V),
    feedAll: async (ids) => {
      const logits = await run(ids)
      return Array.from({ length: ids.length }, (_, i) => logits.subarray(i * V, (i + 1) * V))
    },
    routing: () => Promise.resolve(routers.map((logits) => routeRow(logits, config))),
    truncate: (kept) => {
      cache = new Map([...cache].map(([name, old]) => [name, shorten(old, G, W, kept)]))
      length = kept
    },
    release: () => void session.release(),
    close: () => session.release(),
  }
}
