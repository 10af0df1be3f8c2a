/** `moe quantize`: a checkpoint or a Hugging Face folder as a folder in bf16, 8 or 4 bits, made to be mapped into memory. */
import { existsSync } from 'node:fs'
import { AppError } from '#core/shared/errors.ts'
import { packModel } from '#core/train/packed-weights.ts'
import { requiredOption, UsageError, type Command } from './command.ts'
import { isPackedType, modelFolder } from './model.ts'

type Result = { folder: string; type: string; sizeBytes: number; sha256: string; seconds: number }

export const quantize: Command = {
  name: 'quantize',
  summary: 'a model in bf16, 8 or 4 bits, which starts at once and needs less memory',
  usage: '--model M --type q4|q8|bf16 --out FOLDER',
  options: { model: { type: 'string' }, type: { type: 'string' }, out: { type: 'string' } },
  help: { model: 'checkpoint id, Hugging Face folder or GGUF file', type: 'q4 (4.5 bits a weight), q8 (8.5) or bf16 (16)', out: 'the new folder' },
  async run({ values }, context): Promise<Result> {
    const [folder, type, out] = [modelFolder(values, context), requiredOption(values, 'type'), requiredOption(values, 'out')]
    if (!isPackedType(type)) throw new UsageError(`--type is "${type}", expected q4, q8 or bf16`)
    if (existsSync(out)) throw new AppError('file.exists', `${out} is there already`, { params: { file: out }, hint: 'Give a folder that is not there yet.' })
    const startedAt = performance.now()
    const file = await packModel(folder, type, out, (tensor, index, count) => context.progress(`${tensor}, ${index + 1} of ${count}`))
    return { folder: out, type, ...file, seconds: (performance.now() - startedAt) / 1000 }
  },
  words: ({ folder, type, sizeBytes, seconds }: Result) => `${folder}: ${type}, ${(sizeBytes / 2 ** 20).toFixed(1)} MiB, ${seconds.toFixed(1)} s`,
}
