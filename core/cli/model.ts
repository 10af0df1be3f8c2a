/** `--model M` and `--device D`: from words to a loaded model. M is a checkpoint id of the library or a Hugging Face folder. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Backend } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { AppError } from '#core/shared/errors.ts'
import { numberOption, requiredOption, UsageError, type Context } from './command.ts'

/** Options of every command that computes. */
export const deviceOptions = { device: { type: 'string' }, threads: { type: 'string' } } as const
export const deviceHelp = { device: 'cpu (default)', threads: 'CPU threads (default: all cores)' }

export const precisionHelp = 'float32 (default) | mixed: products in bf16, where the processor multiplies it'

/** What --precision asks for. */
export function precisionOption(values: Record<string, string | boolean | undefined>): 'float32' | 'mixed' {
  const precision = values.precision ?? 'float32'
  if (precision !== 'float32' && precision !== 'mixed') throw new UsageError(`--precision is "${String(precision)}", expected float32 or mixed`)
  return precision
}

/** The backend that the options ask for. */
export function openBackend(values: Record<string, string | boolean | undefined>, precision: 'float32' | 'mixed' = 'float32'): Backend {
  const device = values.device ?? 'cpu'
  if (device === 'webgpu') throw new AppError('device.unavailable', 'the webgpu device is not built yet', { params: { device }, hint: 'Use --device cpu.' })
  if (device !== 'cpu') throw new UsageError(`--device is "${String(device)}", expected cpu`)
  const threads = numberOption(values, 'threads', 0, { min: 0, integer: true })
  return createCpuBackend({ precision, ...(threads > 0 && { threads }) })
}

/** Folder of the model named by --model. */
export function modelFolder(values: Record<string, string | boolean | undefined>, context: Context): string {
  const model = requiredOption(values, 'model')
  const checkpoint = join(context.library, 'checkpoints', model)
  if (/^[A-Za-z0-9_-]+$/.test(model) && existsSync(checkpoint)) return checkpoint
  if (existsSync(model) && statSync(model).isDirectory()) return model
  throw new AppError('model.notFound', `no model "${model}"`, {
    params: { model, library: context.library },
    hint: 'Give a checkpoint id (moe runs show <id> lists them) or a folder with config.json and *.safetensors.',
  })
}
