/** A model into one of the formats that other programs read. The target must not exist: an export never overwrites. Bundles are bundle.ts's. */
import { existsSync, mkdirSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import type { WrittenFile } from '#core/formats/atomic.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ExportFormat, ExportOptions } from '#core/shared/exchange.ts'
import { exportGguf } from './gguf.ts'
import { exportHuggingFace, type ExportProgress } from './hugging-face.ts'
import { exportOnnx } from './onnx.ts'

/** Throws `file.exists`; makes the folder around `out`. */
export function requireFree(out: string): void {
  if (existsSync(out)) throw new AppError('file.exists', `${out} is there already`, { params: { file: out }, hint: 'Give a place where nothing is yet.' })
  mkdirSync(dirname(out), { recursive: true })
}

/** Writes the model at `path` (folder or GGUF file) to `out`. Throws `file.exists`, `export.notOlmoe` and what opening a model does. */
export async function exportModel(path: string, to: Exclude<ExportFormat, 'bundle'>, out: string, options: ExportOptions, { name, onProgress }: { name?: string | undefined; onProgress: ExportProgress }): Promise<Record<string, WrittenFile>> {
  requireFree(out)
  switch (to) {
    case 'hf':
      return exportHuggingFace(path, out, { dtype: options.dtype, onProgress })
    case 'gguf':
      return { [basename(out)]: await exportGguf(path, out, options.type, { ...(name !== undefined && { name }), onProgress }) }
    case 'onnx':
      return exportOnnx(path, out, { experts: options.experts, onProgress })
  }
}
