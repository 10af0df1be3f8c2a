/**
 * Weights for inference: a packed file mapped into memory, or a checkpoint packed while it is loaded, or written as such a file. One
 * matrix is in JavaScript's memory at a time, so a model may be larger than memory.
 */
import { copyFileSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Backend, PackedDType, Tensor } from '#core/backend/backend.ts'
import { exactBytes, isPacked, layoutVersion, packRows } from '#core/backend/packed.ts'
import { writeFolderAtomic } from '#core/formats/atomic.ts'
import { packedFileName, readPackedHeader, writePackedFile, type PackedHeader, type PackedToWrite } from '#core/formats/packed-file.ts'
import { openSafetensors, type SafetensorsFile } from '#core/formats/safetensors.ts'
import { declarePackedWeights, listPackedWeights, packedSources, type PackedWeights } from '#core/model/packed-weights.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { encodeRows } from '#core/shared/quantization.ts'
import { findTensor, readModelConfig, readModelFolder } from './weights.ts'

export type PackedModel = { config: ModelConfig; weights: PackedWeights; type: PackedDType }

/** The packed bytes of a tensor, matrix by matrix. */
function* packTensor(tensor: Tensor, matrices: Iterable<Float32Array>): Generator<Uint8Array> {
  for (const numbers of matrices) {
    if (isPacked(tensor)) yield packRows(tensor.dtype, encodeRows(tensor.dtype, numbers, tensor.shape.at(-1)!), tensor.shape.at(-1)!)
    else yield new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)
  }
}

function concatenated(parts: readonly Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** Every tensor of a checkpoint folder with its packed bytes. */
function packedTensors(folder: string, files: readonly SafetensorsFile[], config: ModelConfig, weights: PackedWeights): { tensor: Tensor; data: () => Generator<Uint8Array> }[] {
  return packedSources(config, weights).map(({ tensor, names, shape }) => {
    const read = (name: string): Float32Array => findTensor(files, folder, name, shape).readFloat32(name)
    const matrices = function* (): Generator<Float32Array> {
      if (tensor.shape.length === 3 || names.length === 1) for (const name of names) yield read(name)
      else yield concatenated(names.map(read))
    }
    return { tensor, data: () => packTensor(tensor, matrices()) }
  })
}

function withFiles<T>(paths: readonly string[], use: (files: readonly SafetensorsFile[]) => T): T {
  const files: SafetensorsFile[] = []
  try {
    for (const path of paths) files.push(openSafetensors(path))
    return use(files)
  } finally {
    files.forEach((file) => file.close())
  }
}

/** Loads a checkpoint folder's weights packed to `type`. */
function packIntoMemory(backend: Backend, folder: string, type: PackedDType): PackedModel {
  const { config, files: paths } = readModelFolder(folder)
  const weights = declarePackedWeights(config, type)
  withFiles(paths, (files) => {
    for (const { tensor, data } of packedTensors(folder, files, config, weights)) backend.load!(Buffer.concat([...data()]), [{ tensor, byteOffset: 0 }])
  })
  return { config, weights, type }
}

/** The places of a model's tensors in a packed file; one that is missing or misshapen is named. */
export function placesInFile(path: string, header: PackedHeader, weights: PackedWeights): { tensor: Tensor; byteOffset: number }[] {
  return listPackedWeights(weights).map((tensor) => {
    const entry = header.tensors[tensor.name]
    const fits = entry?.dtype === tensor.dtype && entry.shape.join() === tensor.shape.join() && entry.sizeBytes === exactBytes(tensor)
    if (fits) return { tensor, byteOffset: entry.byteOffset }
    const found = entry ? `${entry.dtype} [${entry.shape.join(', ')}]` : 'missing'
    throw new AppError('model.wrongShape', `${path}: tensor ${tensor.name} is ${found}, expected ${tensor.dtype} [${tensor.shape.join(', ')}]`, {
      params: { file: path, tensor: tensor.name, found, expected: `${tensor.dtype} ${tensor.shape.join('×')}` },
      hint: 'config.json belongs to another model.',
    })
  })
}

/**
 * A model for inference. A folder with a packed file is mapped, unless another `type` is asked for; from a checkpoint the weights are
 * packed to `type` (default bf16) in memory.
 */
export function loadPackedModel(backend: Backend, folder: string, type?: PackedDType): PackedModel {
  if (!backend.load) throw new AppError('backend.opUnsupported', `the ${backend.name} backend has no packed weights`, { params: { op: 'load' }, hint: 'Use the CPU for models in bf16, 8 or 4 bits.' })
  const path = join(folder, packedFileName)
  if (!existsSync(path)) return packIntoMemory(backend, folder, type ?? 'bf16')
  const header = readPackedHeader(path, layoutVersion)
  if (type !== undefined && type !== header.type) {
    throw new AppError('model.otherType', `${path} is in ${header.type}, not ${type}`, { params: { file: path, found: header.type, expected: type }, hint: 'Give the model it was made from.' })
  }
  const config = readModelConfig(folder)
  const weights = declarePackedWeights(config, header.type)
  backend.load(path, placesInFile(path, header, weights))
  return { config, weights, type: header.type }
}

/** The entries of a packed file for `weights`; `data` gives a tensor's bytes. */
export function entriesToWrite(weights: PackedWeights, data: (tensor: Tensor) => Iterable<Uint8Array>): PackedToWrite[] {
  return listPackedWeights(weights).map((tensor) => ({ name: tensor.name, dtype: tensor.dtype as PackedToWrite['dtype'], shape: tensor.shape, sizeBytes: exactBytes(tensor), data: () => data(tensor) }))
}

/** Converts a checkpoint folder to a new folder `out` with a packed file, its config.json and tokenizer. */
export async function packModel(folder: string, type: PackedDType, out: string, progress: (tensor: string, index: number, count: number) => void): Promise<{ sizeBytes: number; sha256: string }> {
  const { config, files: paths } = readModelFolder(folder)
  const weights = declarePackedWeights(config, type)
  const files: SafetensorsFile[] = []
  try {
    for (const path of paths) files.push(openSafetensors(path))
    const sources = new Map(packedTensors(folder, files, config, weights).map(({ tensor, data }) => [tensor, data]))
    return await writeFolderAtomic(out, async (temporary) => {
      for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json']) if (existsSync(join(folder, name))) copyFileSync(join(folder, name), join(temporary, name))
      let index = 0
      return writePackedFile(join(temporary, packedFileName), type, layoutVersion, entriesToWrite(weights, (tensor) => {
        progress(tensor.name, index++, sources.size)
        return sources.get(tensor)!()
      }))
    })
  } finally {
    files.forEach((file) => file.close())
  }
}
