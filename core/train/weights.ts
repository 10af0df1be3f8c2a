/**
 * Weights of a backend, drawn from a seed, or between it and files: whatever core/train/model-source.ts opens in, float32 safetensors
 * with Hugging Face's names out. One tensor is in JavaScript's memory at a time.
 */
import { elementCount, type Backend, type Tensor } from '#core/backend/backend.ts'
import type { WrittenFile } from '#core/formats/atomic.ts'
import { openSafetensors, writeSafetensors, type TensorToWrite } from '#core/formats/safetensors.ts'
import { declareWeights, huggingFaceParts, initialValues, listWeights, type Weights } from '#core/model/parameters.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { openModelSource, readConfigOf, type ModelSource } from './model-source.ts'

/** Reads the weights of a Hugging Face folder or GGUF file into allocated tensors of that model. */
export async function loadWeightsInto(backend: Backend, path: string, config: ModelConfig, weights: Weights): Promise<void> {
  const source = openModelSource(path)
  try {
    for (const { tensor, parts } of huggingFaceParts(config, weights)) {
      for (const { name, shape, elementOffset } of parts) await backend.write(tensor, source.read(name, shape), elementOffset)
    }
  } finally {
    source.close()
  }
}

/** Elements drawn at a time: few, so that they stay in the cache and leave no garbage the size of a model. */
const pieceElements = 1 << 18

/** Puts a seed's initial weights in place. */
export async function drawWeights(backend: Backend, config: ModelConfig, weights: Weights, seed: number): Promise<void> {
  const values = new Float32Array(pieceElements)
  for (const tensor of listWeights(weights)) {
    const fill = initialValues(config, tensor, seed)
    const count = elementCount(tensor)
    for (let at = 0; at < count; at += pieceElements) {
      const piece = values.subarray(0, Math.min(pieceElements, count - at))
      fill(piece)
      await backend.write(tensor, piece, at)
    }
  }
}

/** A seed's initial weights as if they lay in files; one tensor is in memory at a time. */
export function initialSource(config: ModelConfig, seed: number): ModelSource {
  const places = new Map(huggingFaceParts(config, declareWeights(config)).flatMap(({ tensor, parts }) => parts.map((part) => [part.name, { tensor, ...part }] as const)))
  let last: { tensor: Tensor; values: Float32Array } | null = null
  return {
    config,
    check: () => undefined,
    read(name, shape) {
      const { tensor, elementOffset } = places.get(name)!
      if (last?.tensor !== tensor) {
        last = { tensor, values: new Float32Array(elementCount(tensor)) }
        const fill = initialValues(config, tensor, seed)
        for (let at = 0; at < last.values.length; at += pieceElements) fill(last.values.subarray(at, at + pieceElements))
      }
      return last.values.subarray(elementOffset, elementOffset + elementCount(shape))
    },
    readRows: () => null,
    close: () => undefined,
  }
}

/** Allocates and loads a model for inference. */
export async function loadModel(backend: Backend, path: string): Promise<{ config: ModelConfig; weights: Weights }> {
  const config = readConfigOf(path)
  const weights = declareWeights(config)
  backend.allocate(listWeights(weights))
  await loadWeightsInto(backend, path, config, weights)
  return { config, weights }
}

/** The safetensors entries of `weights`, read from the backend as they are written. */
function tensorsToWrite(backend: Backend, config: ModelConfig, weights: Weights, prefix = ''): TensorToWrite[] {
  let last: { tensor: Tensor; data: Float32Array } | null = null
  const read = async (tensor: Tensor): Promise<Float32Array> => {
    if (last?.tensor !== tensor) last = { tensor, data: Float32Array.from(await backend.read(tensor)) }
    return last.data
  }
  return huggingFaceParts(config, weights).flatMap(({ tensor, parts }) =>
    parts.map(({ name, shape, elementOffset }) => ({
      name: prefix + name,
      shape,
      data: async () => (await read(tensor)).subarray(elementOffset, elementOffset + elementCount(shape)),
    })),
  )
}

/** Writes weights (or gradients) as float32 safetensors with Hugging Face names. */
export function writeWeights(backend: Backend, config: ModelConfig, weights: Weights, path: string): Promise<WrittenFile> {
  return writeSafetensors(path, tensorsToWrite(backend, config, weights), { format: 'pt' })
}

/** Writes both AdamW moments in one file, as m.<name> and v.<name>. */
export function writeMoments(backend: Backend, config: ModelConfig, moments: { m: Weights; v: Weights }, path: string): Promise<WrittenFile> {
  return writeSafetensors(path, [...tensorsToWrite(backend, config, moments.m, 'm.'), ...tensorsToWrite(backend, config, moments.v, 'v.')])
}

/** Reads what writeMoments wrote. */
export async function loadMoments(backend: Backend, config: ModelConfig, moments: { m: Weights; v: Weights }, path: string): Promise<void> {
  const file = openSafetensors(path)
  try {
    for (const key of ['m', 'v'] as const) {
      for (const { tensor, parts } of huggingFaceParts(config, moments[key])) {
        for (const { name, elementOffset } of parts) await backend.write(tensor, file.readFloat32(`${key}.${name}`), elementOffset)
      }
    }
  } finally {
    file.close()
  }
}

/** A [B, T] batch from safetensors: input_ids and loss_mask (all ones when absent). */
export function readTokenBatch(path: string): { ids: Int32Array; mask: Int32Array; sequence: number } {
  const file = openSafetensors(path)
  try {
    const shape = file.entries.get('input_ids')?.shape ?? []
    const maskShape = file.entries.get('loss_mask')?.shape ?? shape
    const invalid = (tensor: string, found: readonly number[]): AppError =>
      new AppError('batch.invalid', `${path}: ${tensor} is [${found.join(', ')}], expected [batch, tokens]`, { params: { file: path, tensor }, hint: 'Write input_ids and loss_mask with the same two dimensions.' })
    if (shape.length !== 2 || shape.includes(0)) throw invalid('input_ids', shape)
    if (maskShape.join() !== shape.join()) throw invalid('loss_mask', maskShape)
    const ids = file.readInt32('input_ids')
    return { ids, mask: file.entries.has('loss_mask') ? file.readInt32('loss_mask') : new Int32Array(ids.length).fill(1), sequence: shape[1]! }
  } finally {
    file.close()
  }
}
