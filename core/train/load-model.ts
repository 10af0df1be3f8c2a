/**
 * A model to compute with, whatever it lies in: float32 weights, or packed ones where its files are packed or a type is asked for.
 * Training always has float32 (weights.ts); this is for everything that only looks.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Backend, PackedDType } from '#core/backend/backend.ts'
import { packedFileName } from '#core/formats/packed-file.ts'
import type { PackedWeights } from '#core/model/packed-weights.ts'
import type { Weights } from '#core/model/parameters.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { isGgufPath, storedTypeOf } from './model-source.ts'
import { loadPackedModel } from './packed-weights.ts'
import { loadModel } from './weights.ts'

export const modelTypes = ['f32', 'bf16', 'q8', 'q4'] as const
export type ModelType = (typeof modelTypes)[number]

/** `weights` are packed where `type` is not f32. */
export type LoadedModel = { config: ModelConfig } & ({ type: 'f32'; weights: Weights } | { type: PackedDType; weights: PackedWeights })

/** Whether the files of a model are packed: a folder of `moe quantize` or of an import, or a GGUF file in blocks. */
export function isPackedModel(path: string): boolean {
  return isGgufPath(path) ? storedTypeOf(path) !== 'f32' : existsSync(join(path, packedFileName))
}

/** Loads a folder or GGUF file, in the form of its files unless `type` says otherwise. Throws what loadModel and loadPackedModel throw. */
export async function loadModelAs(backend: Backend, path: string, type?: ModelType): Promise<LoadedModel> {
  const form = type ?? (isGgufPath(path) ? storedTypeOf(path) : isPackedModel(path) ? undefined : 'f32')
  return form === 'f32' ? { type: 'f32', ...(await loadModel(backend, path)) } : loadPackedModel(backend, path, form)
}
