/**
 * Weights for inference: a packed file mapped into memory, or a checkpoint packed while it is loaded, or written as such a file. One
 * matrix is in JavaScript's memory at a time, so a model may be larger than memory.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Backend, PackedDType, Tensor } from '#core/backend/backend.ts'
import { exactBytes, isPacked, layoutVersion, packRows } from '#core/backend/packed.ts'
import { writeFileAtomic, writeFolderAtomic, type WrittenFile } from '#core/formats/atomic.ts'
import { packedFileName, readPackedHeader, writePackedFile, type PackedHeader, type PackedToWrite } from '#core/formats/packed-file.ts'
import { declarePackedWeights, listPackedWeights, packedSources, type PackedSource, type PackedWeights } from '#core/model/packed-weights.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { encodeRows } from '#core/shared/quantization.ts'
import { huggingFaceConfig, isGgufPath, openModelSource, readConfigOf, readModelConfig, type ModelSource } from './model-source.ts'
import { copyTokenizer } from './model-tokenizer.ts'

export type PackedModel = { config: ModelConfig; weights: PackedWeights; type: PackedDType }

/** The packed bytes of a tensor, matrix by matrix; rows that the files hold in its form already are taken over as they are. */
function* packTensor(source: ModelSource, { tensor, names, shape }: PackedSource): Generator<Uint8Array> {
  if (!isPacked(tensor)) {
    for (const name of names) {
      const numbers = source.read(name, shape)
      yield new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength)
    }
    return
  }
  const { dtype } = tensor
  const width = tensor.shape.at(-1)!
  const rowsOf = (name: string): Uint8Array => source.readRows(name, shape, dtype) ?? encodeRows(dtype, source.read(name, shape), width)
  // Matrices of a stack are packed one by one; those of a single matrix are parts of it.
  if (tensor.shape.length === 3) for (const name of names) yield packRows(dtype, rowsOf(name), width)
  else yield packRows(dtype, names.length === 1 ? rowsOf(names[0]!) : Buffer.concat(names.map(rowsOf)), width)
}

/** Loads a model's weights packed to `type`. */
function packIntoMemory(backend: Backend, path: string, type: PackedDType): PackedModel {
  const source = openModelSource(path)
  try {
    const weights = declarePackedWeights(source.config, type)
    for (const place of packedSources(source.config, weights)) backend.load!(Buffer.concat([...packTensor(source, place)]), [{ tensor: place.tensor, byteOffset: 0 }])
    return { config: source.config, weights, type }
  } finally {
    source.close()
  }
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

/** Writes the packed file of the model at `path` (a Hugging Face folder or GGUF file) into `folder`. */
export async function writePackedModel(path: string, type: PackedDType, folder: string, progress: (tensor: string, index: number, count: number) => void): Promise<WrittenFile> {
  const source = openModelSource(path)
  try {
    const weights = declarePackedWeights(source.config, type)
    const places = new Map(packedSources(source.config, weights).map((place) => [place.tensor, place]))
    let index = 0
    const entries = entriesToWrite(weights, (tensor) => {
      progress(tensor.name, index++, places.size)
      return packTensor(source, places.get(tensor)!)
    })
    return await writePackedFile(join(folder, packedFileName), type, layoutVersion, entries)
  } finally {
    source.close()
  }
}

/** Converts a Hugging Face folder or GGUF file to a new folder `out` with a packed file, its config.json and tokenizer. */
export function packModel(folder: string, type: PackedDType, out: string, progress: (tensor: string, index: number, count: number) => void): Promise<WrittenFile> {
  return writeFolderAtomic(out, async (temporary) => {
    await copyTokenizer(folder, temporary)
    await writeFileAtomic(join(temporary, 'config.json'), [isGgufPath(folder) ? `${JSON.stringify(huggingFaceConfig(readConfigOf(folder), 'float32'), null, 2)}\n` : readFileSync(join(folder, 'config.json'), 'utf8')])
    return writePackedModel(folder, type, temporary, progress)
  })
}
