/**
 * A model made elsewhere becomes a checkpoint: its weights as they came (or packed), configuration, tokenizer, a training state of no steps,
 * and a manifest that says where it came from. Every tensor's name and shape is held against the configuration before anything is written;
 * one is in memory at a time. The folder appears whole, each file read back against its hash, or not at all.
 */
import { existsSync, statSync, statfsSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { exactBytes } from '#core/backend/packed.ts'
import { copyFileHashed, sha256File, writeFileAtomic, writeFolderAtomic, type WrittenFile } from '#core/formats/atomic.ts'
import { packedFileName } from '#core/formats/packed-file.ts'
import { declareWeights, huggingFaceParts } from '#core/model/parameters.ts'
import { declarePackedWeights, listPackedWeights } from '#core/model/packed-weights.ts'
import type { CheckpointManifest, TrainingState } from '#core/shared/checkpoints.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ImportType } from '#core/shared/exchange.ts'
import { countParameters, type ModelConfig } from '#core/shared/models.ts'
import { runConfigSchema } from '#core/shared/runs.ts'
import { verifyFiles } from './checkpoint.ts'
import { writeShards } from './export/hugging-face.ts'
import { huggingFaceConfig, isGgufPath, openModelSource, readModelFolder, storedType, type ModelSource } from './model-source.ts'
import { copyTokenizer, requireTokenizer } from './model-tokenizer.ts'
import { writePackedModel } from './packed-weights.ts'

/** What a model that was trained elsewhere for a run of this library is a checkpoint of. */
export type TrainedElsewhere = Pick<CheckpointManifest, 'mixId' | 'mixHash' | 'parentId' | 'validationLoss'> & { state: TrainingState }
export type ImportIdentity = { id: string; runId: string; name: string; createdAt: number; codeVersion: string; trained?: TrainedElsewhere; /** The file's or folder's name, or the repository; never a path, which would tell of a machine. */ from: string }
export type ImportProgress = (phase: 'check' | 'hash' | 'weights' | 'verify', done: number, total: number, unit: 'tensors' | 'bytes' | 'files') => void

/** Room that is left beside the weights. */
const spareBytes = 64 << 20

function requireSpace(folder: string, neededBytes: number): void {
  const { bavail, bsize } = statfsSync(folder)
  const freeBytes = bavail * bsize
  if (freeBytes >= neededBytes + spareBytes) return
  throw new AppError('disk.tooSmall', `${folder}: found ${freeBytes} bytes of free space, expected ${neededBytes + spareBytes}`, { params: { file: folder, freeBytes, neededBytes: neededBytes + spareBytes }, hint: 'Free some space, import in fewer bits, or put the library on another disk.' })
}

/** The form that weights are kept in: `files` as they are, packed, or as float32 safetensors (a GGUF file of floats). */
function keptForm(source: ModelSource, path: string, type: ImportType): 'files' | 'f32' | 'bf16-shards' | 'bf16' | 'q8' | 'q4' {
  if (type !== 'keep') return type
  if (!isGgufPath(path)) return 'files'
  const stored = storedType(source)
  return stored === 'bf16' ? 'bf16-shards' : stored
}

async function copyWeights(path: string, folder: string, onProgress: ImportProgress): Promise<Record<string, WrittenFile>> {
  const files: Record<string, WrittenFile> = {}
  const paths = readModelFolder(path).files
  const total = paths.reduce((sum, file) => sum + statSync(file).size, 0)
  let done = 0
  const onBytes = (bytes: number): void => onProgress('weights', (done += bytes), total, 'bytes')
  for (const file of paths) files[basename(file)] = await copyFileHashed(file, join(folder, basename(file)), onBytes)
  const index = 'model.safetensors.index.json'
  if (existsSync(join(path, index))) files[index] = await copyFileHashed(join(path, index), join(folder, index))
  return files
}

async function writeWeightFiles(source: ModelSource, path: string, form: ReturnType<typeof keptForm>, folder: string, onProgress: ImportProgress): Promise<Record<string, WrittenFile>> {
  if (form === 'files') return existsSync(join(path, packedFileName)) ? { [packedFileName]: await copyFileHashed(join(path, packedFileName), join(folder, packedFileName)) } : copyWeights(path, folder, onProgress)
  if (form === 'f32' || form === 'bf16-shards') return writeShards(folder, source, form === 'f32' ? 'f32' : 'bf16', (done, total) => onProgress('weights', done, total, 'tensors'))
  return { [packedFileName]: await writePackedModel(path, form, folder, (_, index, count) => onProgress('weights', index, count, 'tensors')) }
}

/** Bytes that the weights will take. */
function weightBytes(config: ModelConfig, path: string, form: ReturnType<typeof keptForm>): number {
  if (form === 'files') return existsSync(join(path, packedFileName)) ? statSync(join(path, packedFileName)).size : readModelFolder(path).files.reduce((sum, file) => sum + statSync(file).size, 0)
  if (form === 'f32' || form === 'bf16-shards') return countParameters(config).total * (form === 'f32' ? 4 : 2)
  return listPackedWeights(declarePackedWeights(config, form)).reduce((sum, tensor) => sum + exactBytes(tensor) + 4096, 0)
}

function checkTensors(source: ModelSource): void {
  for (const { parts } of huggingFaceParts(source.config, declareWeights(source.config))) for (const { name, shape } of parts) source.check(name, shape)
}

/** A run that makes no steps: what an import is in the lineage. */
function importState(model: ModelConfig, { name }: ImportIdentity): TrainingState {
  const config = runConfigSchema.parse({ name, stage: 'import', model, steps: 0, sequenceLength: Math.max(8, Math.min(256, model.max_position_embeddings)) })
  return { step: 0, tokens: 0, seconds: 0, loaderPosition: 0, earlierSteps: 0, rng: [], config, records: [] }
}

/**
 * Makes checkpoint `identity.id` under `checkpoints` of the Hugging Face folder, packed folder or GGUF file `given`. What `onProgress`
 * throws ends it with nothing left. Throws what opening a model does, `model.noTokenizer`, `model.vocabularyTooSmall` and `disk.tooSmall`.
 */
export async function importModel(given: string, type: ImportType, identity: ImportIdentity, checkpoints: string, onProgress: ImportProgress = () => undefined): Promise<CheckpointManifest> {
  const path = resolve(given)
  const source = openModelSource(path)
  try {
    onProgress('check', 0, 1, 'files')
    checkTensors(source)
    requireTokenizer(path, source.config)
    const form = keptForm(source, path, type)
    requireSpace(dirname(checkpoints), weightBytes(source.config, path, form))
    const origin = { from: identity.from, files: isGgufPath(path) ? { [basename(path)]: await hashed(path, onProgress) } : {} }
    const { state, ...lineage } = identity.trained ?? { state: importState(source.config, identity), mixId: '', mixHash: '', parentId: null, validationLoss: null }
    return await writeFolderAtomic(join(checkpoints, identity.id), async (folder) => {
      const text = (name: string, content: string): Promise<WrittenFile> => writeFileAtomic(join(folder, name), [content])
      const dtype = form === 'bf16-shards' ? 'bfloat16' : 'float32'
      const files: Record<string, WrittenFile> = {
        ...(await writeWeightFiles(source, path, form, folder, onProgress)),
        ...(await copyTokenizer(path, folder)),
        'config.json': isGgufPath(path) ? await text('config.json', `${JSON.stringify(huggingFaceConfig(source.config, dtype), null, 2)}\n`) : await copyFileHashed(join(path, 'config.json'), join(folder, 'config.json')),
        'state.json': await text('state.json', JSON.stringify(state)),
      }
      const { id, runId, createdAt, codeVersion } = identity
      const { step, tokens } = state
      const manifest: CheckpointManifest = { format: 'moe-workbench-checkpoint', version: 1, id, runId, createdAt, codeVersion, step, tokens, ...lineage, origin, files }
      onProgress('verify', 0, 1, 'files')
      await verifyFiles(folder, manifest)
      await text('manifest.json', `${JSON.stringify(manifest, null, 2)}\n`)
      return manifest
    })
  } finally {
    source.close()
  }
}

async function hashed(path: string, onProgress: ImportProgress): Promise<WrittenFile> {
  const sizeBytes = statSync(path).size
  let done = 0
  return { sizeBytes, sha256: await sha256File(path, (bytes) => onProgress('hash', (done += bytes), sizeBytes, 'bytes')) }
}
