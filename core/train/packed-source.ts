/**
 * A packed model folder as a source of weights: what was made for being mapped can be exported, analysed and trained on too. Rows come
 * back as they were encoded, so a model in 4 bits goes into a GGUF file of 4 bits without another rounding.
 */
import { closeSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { isPacked, layoutVersion, packedBytes, unpackRows } from '#core/backend/packed.ts'
import { openForReading } from '#core/formats/open-file.ts'
import { packedFileName, readPackedHeader } from '#core/formats/packed-file.ts'
import { declarePackedWeights, packedSources } from '#core/model/packed-weights.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { decodeRows } from '#core/shared/quantization.ts'
import type { ModelSource } from './model-source.ts'

/** Opens the packed file of `folder`, whose configuration is `config`. Throws `packed.damaged`, `model.missingTensor`. */
export function openPackedSource(folder: string, config: ModelConfig): ModelSource {
  const path = join(folder, packedFileName)
  const header = readPackedHeader(path, layoutVersion)
  const places = new Map(packedSources(config, declarePackedWeights(config, header.type)).flatMap(({ tensor, names, shape }) => names.map((name, index) => [name, { tensor, index, shape }] as const)))
  const file = openForReading(path)
  const find = (name: string) => {
    const place = places.get(name)
    const entry = place && header.tensors[place.tensor.name]
    if (!place || !entry) throw new AppError('model.missingTensor', `${path}: tensor ${name} is missing`, { params: { folder, tensor: name }, hint: 'Make the file again from the original.' })
    return { ...place, entry }
  }
  const rowsOf = (name: string): { dtype: string; bytes: Uint8Array<ArrayBuffer> } => {
    const { tensor, index, shape, entry } = find(name)
    const sizeBytes = isPacked(tensor) ? packedBytes(tensor.dtype, shape) : shape.reduce((a, b) => a * b, 4)
    const bytes = new Uint8Array(sizeBytes)
    for (let done = 0; done < sizeBytes; ) {
      const count = readSync(file, bytes, done, sizeBytes - done, entry.byteOffset + index * sizeBytes + done)
      if (count === 0) throw new AppError('packed.damaged', `${path}: the file ends inside ${name}`, { params: { file: path, tensor: name }, hint: 'Make it again from the original.' })
      done += count
    }
    return { dtype: tensor.dtype, bytes: isPacked(tensor) ? unpackRows(tensor.dtype, bytes, shape[0]!, shape[1]!) : bytes }
  }
  return {
    config,
    check: (name) => void find(name),
    read(name) {
      const { dtype, bytes } = rowsOf(name)
      return dtype === 'f32' ? new Float32Array(bytes.buffer) : decodeRows(dtype as 'q4', bytes)
    },
    readRows: (name, _shape, type) => (find(name).tensor.dtype === type ? rowsOf(name).bytes : null),
    close: () => closeSync(file),
  }
}
