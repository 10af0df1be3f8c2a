/**
 * A model as a Hugging Face OLMoE folder: config.json, generation_config.json, tokenizer files, and safetensors in shards with their
 * index, as transformers' save_pretrained leaves them. Tensors stream through: one is in memory at a time.
 */
import { join } from 'node:path'
import { elementCount } from '#core/backend/backend.ts'
import { writeFileAtomic, writeFolderAtomic, type WrittenFile } from '#core/formats/atomic.ts'
import { writeSafetensors, type TensorToWrite } from '#core/formats/safetensors.ts'
import { declareWeights, huggingFaceParts } from '#core/model/parameters.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { huggingFaceConfig, openModelSource, type ModelSource } from '../model-source.ts'
import { copyTokenizer } from '../model-tokenizer.ts'

export type ExportedFiles = Record<string, WrittenFile>
export type ExportProgress = (done: number, total: number, unit: 'tensors') => void
export type HuggingFaceDtype = 'bf16' | 'f32'

/** transformers' own limit. */
const shardLimitBytes = 5_000_000_000
function generationConfig({ eos_token_id, pad_token_id }: ModelConfig): object {
  return { _from_model_config: true, ...(eos_token_id !== null && { eos_token_id }), ...(pad_token_id !== null && { pad_token_id }) }
}

/** Cuts tensors into files of at most `limitBytes`, in order. */
function shardsOf(tensors: readonly TensorToWrite[], limitBytes: number): TensorToWrite[][] {
  const shards: TensorToWrite[][] = [[]]
  let bytes = 0
  for (const tensor of tensors) {
    const size = elementCount(tensor.shape) * (tensor.dtype === 'BF16' ? 2 : 4)
    if (bytes + size > limitBytes && bytes > 0) {
      shards.push([])
      bytes = 0
    }
    shards.at(-1)!.push(tensor)
    bytes += size
  }
  return shards
}

/** Writes the weights of `source` into `folder`, in shards with their index where one file would be too large. */
export async function writeShards(folder: string, source: ModelSource, dtype: HuggingFaceDtype, onProgress: ExportProgress, limitBytes = shardLimitBytes): Promise<ExportedFiles> {
  const tensors = tensorsOf(source, dtype, onProgress)
  const shards = shardsOf(tensors, limitBytes)
  const names = shards.map((_, i) => (shards.length === 1 ? 'model.safetensors' : `model-${String(i + 1).padStart(5, '0')}-of-${String(shards.length).padStart(5, '0')}.safetensors`))
  const files: ExportedFiles = {}
  for (const [i, shard] of shards.entries()) files[names[i]!] = await writeSafetensors(join(folder, names[i]!), shard, { format: 'pt' })
  if (shards.length === 1) return files
  const total = tensors.reduce((sum, { shape, dtype }) => sum + elementCount(shape) * (dtype === 'BF16' ? 2 : 4), 0)
  const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(shards.flatMap((shard, i) => shard.map(({ name }) => [name, names[i]!]))) }
  const name = 'model.safetensors.index.json'
  return { ...files, [name]: await writeFileAtomic(join(folder, name), [`${JSON.stringify(index, null, 2)}\n`]) }
}

function tensorsOf(source: ModelSource, dtype: HuggingFaceDtype, onProgress: ExportProgress): TensorToWrite[] {
  const parts = huggingFaceParts(source.config, declareWeights(source.config)).flatMap((tensor) => tensor.parts)
  return parts.map(({ name, shape }, i) => ({
    name,
    shape,
    dtype: dtype === 'bf16' ? 'BF16' : 'F32',
    data: () => {
      onProgress(i + 1, parts.length, 'tensors')
      return source.read(name, shape)
    },
  }))
}

/** Writes the model of `folder` as a new Hugging Face folder `out`. */
export function exportHuggingFace(folder: string, out: string, { dtype = 'bf16', shardBytes = shardLimitBytes, onProgress = () => undefined }: { dtype?: HuggingFaceDtype; shardBytes?: number; onProgress?: ExportProgress } = {}): Promise<ExportedFiles> {
  return writeFolderAtomic(out, async (temporary) => {
    const source = openModelSource(folder)
    try {
      const json = async (name: string, value: object): Promise<WrittenFile> => writeFileAtomic(join(temporary, name), [`${JSON.stringify(value, null, 2)}\n`])
      return {
        'config.json': await json('config.json', huggingFaceConfig(source.config, dtype === 'bf16' ? 'bfloat16' : 'float32')),
        'generation_config.json': await json('generation_config.json', generationConfig(source.config)),
        ...(await copyTokenizer(folder, temporary)),
        ...(await writeShards(temporary, source, dtype, onProgress, shardBytes)),
      }
    } finally {
      source.close()
    }
  })
}
