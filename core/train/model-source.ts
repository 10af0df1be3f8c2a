/**
 * Weights that lie in files, whatever the files are: a Hugging Face OLMoE folder (config.json + *.safetensors, sharded or not), a
 * folder with a packed file, or a GGUF file of the architecture. Tensors are asked for by their Hugging Face names and come one at a time, so that a model may be larger
 * than memory. Nothing is trusted: names and shapes are held against the configuration.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { openGguf } from '#core/formats/gguf-read.ts'
import { packedFileName } from '#core/formats/packed-file.ts'
import { openSafetensors, type SafetensorsFile } from '#core/formats/safetensors.ts'
import { AppError } from '#core/shared/errors.ts'
import { isOlmoe, modelConfigSchema, type ModelConfig } from '#core/shared/models.ts'
import type { BlockType } from '#core/shared/quantization.ts'
import { ggufPlace, readGgufConfig } from './gguf-model.ts'
import { openPackedSource } from './packed-source.ts'

export type ModelSource = {
  readonly config: ModelConfig
  /** Throws what `read` would of a tensor's name and shape, without reading it. */
  check(name: string, shape: readonly number[]): void
  /** A matrix or vector as float32. Throws `model.missingTensor` or `model.wrongShape`. */
  read(name: string, shape: readonly number[]): Float32Array
  /** Its encoded rows, where the files hold them in `type`: to be taken over as they are. Null where they do not. */
  readRows(name: string, shape: readonly number[], type: BlockType): Uint8Array | null
  close(): void
}

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
  if (type !== undefined && type !== 'olmoe' && type !== variantModelType) throw invalid(path, 'model_type', `is ${JSON.stringify(type)}, expected "olmoe"`)
  const parsed = modelConfigSchema.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw invalid(path, issue.path.join('.'), issue.message)
  }
  return parsed.data
}

/** model_type of the family's variants that transformers has no name for. */
const variantModelType = 'moe_workbench'

/** config.json as transformers writes it for OLMoE; a variant names itself as ours, so that nobody loads it as what it is not. */
export function huggingFaceConfig(model: ModelConfig, dtype: 'float32' | 'bfloat16'): object {
  const { rope_theta, ...fields } = model
  const kind = isOlmoe(model) ? { architectures: ['OlmoeForCausalLM'], model_type: 'olmoe' } : { architectures: ['MoeWorkbenchForCausalLM'], model_type: variantModelType }
  return { ...kind, ...fields, rope_theta, rope_parameters: { rope_theta, rope_type: 'default' }, torch_dtype: dtype }
}

/** Configuration and weight files of a model folder. Throws AppError `model.invalid` naming file and field. */
export function readModelFolder(folder: string): { config: ModelConfig; files: string[] } {
  const config = readModelConfig(folder)
  const files = readdirSync(folder).filter((name) => /^model.*\.safetensors$/.test(name)).sort()
  if (files.length === 0) throw invalid(join(folder, 'config.json'), '(folder)', 'has no model*.safetensors')
  return { config, files: files.map((name) => join(folder, name)) }
}

/** Whether `path` names a GGUF file rather than a folder. */
export const isGgufPath = (path: string): boolean => /\.gguf$/i.test(path)

function missing(path: string, name: string, hint: string): AppError {
  return new AppError('model.missingTensor', `${path}: tensor ${name} is missing`, { params: { folder: path, tensor: name }, hint })
}

function requireShape(path: string, name: string, found: readonly number[], expected: readonly number[]): void {
  if (found.join() === expected.join()) return
  throw new AppError('model.wrongShape', `${path}: tensor ${name} is [${found.join(', ')}], expected [${expected.join(', ')}]`, {
    params: { file: path, tensor: name, found: found.join('×'), expected: expected.join('×') },
    hint: 'The configuration belongs to another model.',
  })
}

function openFolder(folder: string): ModelSource {
  const { config, files: paths } = readModelFolder(folder)
  const files: SafetensorsFile[] = []
  const close = (): void => files.forEach((file) => file.close())
  try {
    for (const path of paths) files.push(openSafetensors(path))
  } catch (error) {
    close()
    throw error
  }
  const at = (name: string, shape: readonly number[]): SafetensorsFile => {
    const file = files.find(({ entries }) => entries.has(name))
    if (!file) throw missing(folder, name, `It is in none of ${files.length} files: the model is incomplete, or config.json belongs to another one.`)
    requireShape(file.path, name, file.entries.get(name)!.shape, shape)
    return file
  }
  return {
    config,
    check: (name, shape) => void at(name, shape),
    read: (name, shape) => at(name, shape).readFloat32(name),
    readRows: () => null,
    close,
  }
}

function openGgufModel(path: string): ModelSource {
  const file = openGguf(path)
  const at = (name: string, shape: readonly number[]): { name: string; index: number } => {
    const place = ggufPlace(name)
    const entry = place === null ? undefined : file.entries.get(place.name)
    if (place === null || entry === undefined) throw missing(path, place?.name ?? name, 'The file is incomplete, or of another architecture.')
    // A stack of experts has one axis more than each of them.
    const stacked = entry.shape.length > shape.length
    requireShape(path, place.name, stacked ? entry.shape.slice(1) : entry.shape, shape)
    if (place.index >= (stacked ? entry.shape[0]! : 1)) throw missing(path, `${place.name}, expert ${place.index}`, 'The file has fewer experts than it says.')
    return place
  }
  try {
    const config = readGgufConfig(file)
    return {
      config,
      check: (name, shape) => void at(name, shape),
      read(name, shape) {
        const place = at(name, shape)
        return file.readMatrix(place.name, place.index)
      },
      readRows(name, shape, type) {
        const place = at(name, shape)
        return file.readRows(place.name, place.index, type)
      },
      close: () => file.close(),
    }
  } catch (error) {
    file.close()
    throw error
  }
}

/** Opens a Hugging Face folder, a packed folder or a GGUF file; the caller closes it. */
export function openModelSource(path: string): ModelSource {
  if (isGgufPath(path)) return openGgufModel(path)
  return existsSync(join(path, packedFileName)) ? openPackedSource(path, readModelConfig(path)) : openFolder(path)
}

/** The form that the files hold a model's matrices in; f32 stands for what is neither bf16 nor blocks. */
export function storedType(source: ModelSource): BlockType | 'f32' {
  const shape = [source.config.hidden_size, source.config.hidden_size]
  return (['q4', 'q8', 'bf16'] as const).find((type) => source.readRows('model.layers.0.self_attn.q_proj.weight', shape, type) !== null) ?? 'f32'
}

/** The configuration of a Hugging Face folder or GGUF file. */
export function readConfigOf(path: string): ModelConfig {
  if (!isGgufPath(path)) return readModelConfig(path)
  const file = openGguf(path)
  try {
    return readGgufConfig(file)
  } finally {
    file.close()
  }
}

/** The same of a file that is not open. */
export function storedTypeOf(path: string): BlockType | 'f32' {
  const source = openModelSource(path)
  try {
    return storedType(source)
  } finally {
    source.close()
  }
}
