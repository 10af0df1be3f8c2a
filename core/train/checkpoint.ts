/**
 * Checkpoints on disk (core/shared/checkpoints.ts has the layout): written into a temporary folder, every file read back against
 * its hash, then renamed into place, so that a checkpoint is whole or not there. A resume reads the same files and refuses any
 * that is not what its manifest says.
 */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Backend } from '#core/backend/backend.ts'
import { sha256File, writeFileAtomic, writeFolderAtomic, type WrittenFile } from '#core/formats/atomic.ts'
import { endOfText } from '#core/data/tokenizer.ts'
import { chatTemplateFiles } from '#core/formats/chat-template.ts'
import type { ChatTemplate } from '#core/shared/chat-templates.ts'
import { manifestSchema, trainingStateSchema, type CheckpointManifest, type TrainingState } from '#core/shared/checkpoints.ts'
import { AppError } from '#core/shared/errors.ts'
import { huggingFaceConfig } from './model-source.ts'
import type { Trainer } from './trainer.ts'
import { loadMoments, loadWeightsInto, writeMoments, writeWeights } from './weights.ts'

export type CheckpointIdentity = Omit<CheckpointManifest, 'format' | 'version' | 'files' | 'step' | 'tokens'>

function damaged(folder: string, what: string): AppError {
  return new AppError('checkpoint.damaged', `${folder}: ${what}`, { params: { folder }, hint: 'This checkpoint cannot be trusted; the one before it can be resumed instead.' })
}

/**
 * Writes the trainer's tensors and `state` as checkpoint `identity.id` under `checkpointsFolder`.
 * The tokenizer is copied in, and the chat template of an adapted model, so the folder stands alone. Returns the manifest once every file has been read back.
 */
export function writeCheckpoint(backend: Backend, trainer: Trainer, state: TrainingState, identity: CheckpointIdentity, checkpointsFolder: string, { tokenizerPath, template = null }: { tokenizerPath: string; template?: ChatTemplate | null }): Promise<CheckpointManifest> {
  const model = state.config.model
  return writeFolderAtomic(join(checkpointsFolder, identity.id), async (folder) => {
    const text = (name: string, content: string): Promise<WrittenFile> => writeFileAtomic(join(folder, name), [content])
    const files: Record<string, WrittenFile> = {
      'config.json': await text('config.json', `${JSON.stringify(huggingFaceConfig(model, 'float32'), null, 2)}\n`),
      'tokenizer.json': await text('tokenizer.json', readFileSync(tokenizerPath, 'utf8')),
      'state.json': await text('state.json', JSON.stringify(state)),
      'model.safetensors': await writeWeights(backend, model, trainer.weights, join(folder, 'model.safetensors')),
      'optimizer.safetensors': await writeMoments(backend, model, trainer.moments, join(folder, 'optimizer.safetensors')),
    }
    for (const [name, content] of Object.entries(template ? chatTemplateFiles(template, endOfText) : {})) files[name] = await text(name, content)
    const manifest: CheckpointManifest = { format: 'moe-workbench-checkpoint', version: 1, ...identity, step: state.step, tokens: state.tokens, files }
    await verifyFiles(folder, manifest)
    await text('manifest.json', `${JSON.stringify(manifest, null, 2)}\n`)
    return manifest
  })
}

/** Reads every file of a checkpoint against its manifest. Throws AppError `checkpoint.damaged` naming the first that differs. */
export async function verifyFiles(folder: string, manifest: CheckpointManifest): Promise<void> {
  for (const [name, { sizeBytes, sha256 }] of Object.entries(manifest.files)) {
    const found = statSync(join(folder, name), { throwIfNoEntry: false })?.size
    if (found !== sizeBytes) throw damaged(folder, `${name} has ${found ?? 'no'} bytes, expected ${sizeBytes}`)
    if ((await sha256File(join(folder, name))) !== sha256) throw damaged(folder, `${name} does not match its hash`)
  }
}

/** The manifest and training state of a checkpoint folder, checked. */
export function readCheckpoint(folder: string): { manifest: CheckpointManifest; state: TrainingState } {
  try {
    const read = (name: string): unknown => JSON.parse(readFileSync(join(folder, name), 'utf8'))
    return { manifest: manifestSchema.parse(read('manifest.json')), state: trainingStateSchema.parse(read('state.json')) }
  } catch (error) {
    throw damaged(folder, error instanceof Error ? error.message : String(error))
  }
}

/** The training state of a checkpoint all of whose files are what its manifest says. */
export async function readVerified(folder: string): Promise<TrainingState> {
  const { manifest, state } = readCheckpoint(folder)
  await verifyFiles(folder, manifest)
  return state
}

/** Loads weights and moments of a verified checkpoint into the trainer; returns its training state. */
export async function resumeCheckpoint(backend: Backend, trainer: Trainer, folder: string): Promise<TrainingState> {
  const state = await readVerified(folder)
  await loadWeightsInto(backend, folder, state.config.model, trainer.weights)
  await loadMoments(backend, state.config.model, trainer.moments, join(folder, 'optimizer.safetensors'))
  return state
}
