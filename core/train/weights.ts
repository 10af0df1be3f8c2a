/**
 * Weights of a backend, drawn from a seed or between it and files: Hugging Face OLMoE folders (config.json + *.safetensors with per-expert names, sharded or
 * not) in, float32 safetensors with the same names out. One tensor is in JavaScript's memory at a time.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { elementCount, type Backend, type Tensor } from '#core/backend/backend.ts'
import type { WrittenFile } from '#core/formats/atomic.ts'
import { openSafetensors, writeSafetensors, type SafetensorsFile, type TensorToWrite } from '#core/formats/safetensors.ts'
import { declareWeights, huggingFaceParts, initialValues, listWeights, type Weights } from '#core/model/parameters.ts'
import { AppError } from '#core/shared/errors.ts'
import { modelConfigSchema, type ModelConfig } from '#core/shared/models.ts'

function invalid(path: string, field: string, what: string): AppError {
  return new AppError('model.invalid', `${path}: ${field}: ${what}`, { params: { file: path, field }, hint: 'Only OLMoE-family models can be opened: config.json and *.safetensors as Hugging Face writes them.' })
}

/** Configuration of a model folder. Throws AppError `model.invalid` naming file and field. */
export function readModelConfig(folder: string): ModelConfig {
  const path = join(folder, 'config.json')
  let json: unknown
  try {
    json = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    throw invalid(path, '(file)', error instanceof SyntaxError ? 'is not JSON' : 'cannot be read')
  }
  const type = (json as { model_type?: unknown } | null)?.model_type
  if (type !== undefined && type !== 'olmoe') throw invalid(path, 'model_type', `is ${JSON.stringify(type)}, expected "olmoe"`)
  const parsed = modelConfigSchema.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw invalid(path, issue.path.join('.'), issue.message)
  }
  return parsed.data
}

/** Configuration and weight files of a model folder. Throws AppError `model.invalid` naming file and field. */
export function readModelFolder(folder: string): { config: ModelConfig; files: string[] } {
  const config = readModelConfig(folder)
  const files = readdirSync(folder).filter((name) => /^model.*\.safetensors$/.test(name)).sort()
  if (files.length === 0) throw invalid(join(folder, 'config.json'), '(folder)', 'has no model*.safetensors')
  return { config, files: files.map((name) => join(folder, name)) }
}

/** Finds every tensor of a model in its open files; a missing or misshapen one is named. */
export function findTensor(files: readonly SafetensorsFile[], folder: string, name: string, shape: readonly number[]): SafetensorsFile {
  const file = files.find(({ entries }) => entries.has(name))
  if (!file) throw new AppError('model.missingTensor', `${folder}: tensor ${name} is in none of ${files.length} files`, { params: { folder, tensor: name }, hint: 'The checkpoint is incomplete or config.json belongs to another model.' })
  const found = file.entries.get(name)!.shape
  if (found.join() === shape.join()) return file
  throw new AppError('model.wrongShape', `${file.path}: tensor ${name} is [${found.join(', ')}], expected [${shape.join(', ')}]`, {
    params: { file: file.path, tensor: name, found: found.join('×'), expected: shape.join('×') },
    hint: 'config.json belongs to another model.',
  })
}

async function loadParts(backend: Backend, folder: string, paths: readonly string[], config: ModelConfig, weights: Weights): Promise<void> {
  const files: SafetensorsFile[] = []
  try {
    for (const path of paths) files.push(openSafetensors(path))
    for (const { tensor, parts } of huggingFaceParts(config, weights)) {
      for (const { name, shape, elementOffset } of parts) {
        await backend.write(tensor, findTensor(files, folder, name, shape).readFloat32(name), elementOffset)
      }
    }
  } finally {
    files.forEach((file) => file.close())
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

/** Reads a model folder's weights into allocated tensors. */
export function loadWeightsInto(backend: Backend, folder: string, config: ModelConfig, weights: Weights): Promise<void> {
  return loadParts(backend, folder, readModelFolder(folder).files, config, weights)
}

/** Allocates and loads a model for inference. */
export async function loadModel(backend: Backend, folder: string): Promise<{ config: ModelConfig; weights: Weights }> {
  const { config } = readModelFolder(folder)
  const weights = declareWeights(config)
  backend.allocate(listWeights(weights))
  await loadWeightsInto(backend, folder, config, weights)
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
