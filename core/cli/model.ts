/** `--model M`, `--device D`, `--dtype T` and what belongs to them: from words to a loaded model. M is a checkpoint id of the library, a Hugging Face folder, a GGUF file or what `moe quantize` made. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { Backend, PackedDType } from '#core/backend/backend.ts'
import { openDevice } from '#core/runner/device.ts'
import { AppError } from '#core/shared/errors.ts'
import { deviceSchema, precisionSchema } from '#core/shared/runs.ts'
import { loadModelAs, modelTypes, type LoadedModel, type ModelType } from '#core/train/load-model.ts'
import { isGgufPath } from '#core/train/model-source.ts'
import { numberOption, requiredOption, UsageError, type Context } from './command.ts'

/** Options of every command that computes. */
export const deviceOptions = { device: { type: 'string' }, adapter: { type: 'string' }, precision: { type: 'string' }, threads: { type: 'string' } } as const
export const deviceHelp = {
  device: 'cpu (default) or webgpu',
  adapter: 'graphics card for webgpu, by its id in "moe devices" (default: the first)',
  precision: 'float32 (default) or mixed: 16-bit operands where the device has them',
  threads: 'CPU threads (default: all cores)',
}

const choiceSchema = z.object({ device: deviceSchema.default('cpu'), adapter: z.string().min(1).nullable().default(null), precision: precisionSchema.default('float32') })

/** The backend that the options ask for. */
export async function openBackend(values: Record<string, string | boolean | undefined>): Promise<Backend> {
  const threads = numberOption(values, 'threads', 0, { min: 0, integer: true })
  const choice = choiceSchema.safeParse({ device: values.device, adapter: values.adapter, precision: values.precision })
  if (!choice.success) {
    const [{ path, message }] = choice.error.issues as [z.core.$ZodIssue]
    throw new UsageError(`--${String(path[0])} is "${String(values[String(path[0])])}": ${message}`)
  }
  return (await openDevice({ ...choice.data, threads })).backend
}

/** Folder or GGUF file of the model named by --model. */
export function modelFolder(values: Record<string, string | boolean | undefined>, context: Context): string {
  const model = requiredOption(values, 'model')
  const checkpoint = join(context.library, 'checkpoints', model)
  if (/^[A-Za-z0-9_-]+$/.test(model) && existsSync(checkpoint)) return checkpoint
  if (existsSync(model) && (statSync(model).isDirectory() || isGgufPath(model))) return model
  throw new AppError('model.notFound', `no model "${model}"`, {
    params: { model, library: context.library },
    hint: 'Give a checkpoint id (moe runs show <id> lists them) a folder with config.json and *.safetensors, or a .gguf file.',
  })
}

/** Option of every command that computes with a model and does not train it. */
export const dtypeOptions = { dtype: { type: 'string' } } as const
export const dtypeHelp = { dtype: 'f32, bf16, q8 or q4 (default: what a packed folder or a GGUF file is in, else f32)' }

export function isPackedType(type: string): type is PackedDType {
  return type !== 'f32' && isModelType(type)
}

const isModelType = (type: string): type is ModelType => modelTypes.some((known) => known === type)

/** The form that --dtype asks for; undefined: that of the files. */
export function typeOption({ dtype }: Record<string, string | boolean | undefined>): ModelType | undefined {
  if (dtype === undefined || (typeof dtype === 'string' && isModelType(dtype))) return dtype
  throw new UsageError(`--dtype is "${String(dtype)}", expected f32, bf16, q8 or q4`)
}

/** Loads the model of `folder`. */
export function loadModelFor(backend: Backend, folder: string, values: Record<string, string | boolean | undefined>): Promise<LoadedModel> {
  return loadModelAs(backend, folder, typeOption(values))
}
