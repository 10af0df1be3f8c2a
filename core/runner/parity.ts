/**
 * Whether a written model computes what its original does: log-probabilities of the same random tokens on both sides. An ONNX model runs in
 * onnxruntime; other files are read back by our own engine, a GGUF file against the original rounded the same way, so that what differs is
 * an error of the file and not the rounding. A model that does not fit into memory twice over is not compared.
 */
import { freemem } from 'node:os'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createPackedScorer } from '#core/evaluate/packed-scorer.ts'
import { createScorer } from '#core/evaluate/scorer.ts'
import { scoreToken } from '#core/model/sampling.ts'
import type { ExportFormat, ExportOptions, Parity } from '#core/shared/exchange.ts'
import { countParameters } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { readConfigOf } from '#core/train/model-source.ts'
import { loadPackedModel } from '#core/train/packed-weights.ts'
import { loadModel } from '#core/train/weights.ts'
import { openOnnxEngine } from './onnx-engine.ts'

const comparedTokens = 48

async function ownScores(path: string, type: 'f32' | ExportOptions['type'], ids: readonly number[]): Promise<number[]> {
  const backend = createCpuBackend({})
  try {
    const scorer = type === 'f32' ? await loadModel(backend, path).then(({ config, weights }) => createScorer(backend, config, weights)) : packedScorer(backend, path, type)
    return (await scorer.score(ids)).slice(1) as number[]
  } finally {
    await backend.close()
  }
}

function packedScorer(backend: ReturnType<typeof createCpuBackend>, path: string, type: ExportOptions['type']): ReturnType<typeof createPackedScorer> {
  const { config, weights } = loadPackedModel(backend, path, type)
  return createPackedScorer(backend, config, weights)
}

async function onnxScores(folder: string, ids: readonly number[]): Promise<number[]> {
  const engine = await openOnnxEngine(folder)
  try {
    const rows = await engine.feedAll(ids)
    return ids.slice(1).map((id, t) => scoreToken(rows[t]!, id).logProbability)
  } finally {
    await engine.close()
  }
}

/** Compares the model at `path` with what was written of it to `out`; null when memory does not allow it. */
export async function checkParity(path: string, to: Exclude<ExportFormat, 'bundle'>, out: string, options: ExportOptions): Promise<Parity | null> {
  const config = readConfigOf(path)
  const bytes = countParameters(config).total * (to === 'gguf' ? 2 : 4)
  if (bytes * (to === 'onnx' ? 2 : 1.2) > freemem()) return null
  const random = createRandom(1, 'parity')
  const ids = Array.from({ length: Math.min(comparedTokens, config.max_position_embeddings) }, () => random.nextBelow(config.vocab_size))
  const type = to === 'gguf' ? options.type : 'f32'
  const before = await ownScores(path, type, ids)
  const after = to === 'onnx' ? await onnxScores(out, ids) : await ownScores(out, type, ids)
  const differences = before.map((value, i) => Math.abs(value - after[i]!))
  return {
    engine: to === 'onnx' ? 'onnxruntime' : 'moe-workbench',
    tokens: ids.length,
    maxDifference: differences.reduce((a, b) => Math.max(a, b), 0),
    meanDifference: differences.reduce((a, b) => a + b, 0) / differences.length,
  }
}
