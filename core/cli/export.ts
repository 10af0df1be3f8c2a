/** `moe export`: a model as files that other programs read, or a checkpoint of the library as a release bundle. */
import { basename, resolve } from 'node:path'
import { checkParity } from '#core/runner/parity.ts'
import { exportFormats, exportRequestSchema, type ExportFormat, type ExportRequest, type ExportResult } from '#core/shared/exchange.ts'
import { exportModel } from '#core/train/export/export-model.ts'
import { requiredOption, UsageError, type Command, type Context } from './command.ts'
import { withCore } from './core.ts'
import { modelFolder } from './model.ts'
import { followTransfer } from './transfer.ts'

type Result = ExportResult & { seconds: number }
type Values = Record<string, string | boolean | undefined>

function readRequest(values: Values): ExportRequest {
  const to = requiredOption(values, 'to')
  if (!exportFormats.includes(to as ExportFormat)) throw new UsageError(`--to is "${to}", expected ${exportFormats.join(', ')}`)
  const parsed = exportRequestSchema.safeParse({
    checkpointId: to === 'bundle' ? requiredOption(values, 'model') : 'none', to, out: resolve(requiredOption(values, 'out')),
    type: values.type, dtype: values.dtype, experts: values.experts, optimizer: values.optimizer, allCheckpoints: values['all-checkpoints'],
  })
  if (parsed.success) return parsed.data
  throw new UsageError(`--${parsed.error.issues[0]!.path.join('.')}: ${parsed.error.issues[0]!.message}`)
}

async function exportFiles(values: Values, request: ExportRequest, to: Exclude<ExportFormat, 'bundle'>, context: Context): Promise<ExportResult> {
  const path = modelFolder(values, context)
  const name = typeof values.name === 'string' ? values.name : basename(path)
  const files = await exportModel(path, to, request.out, request, { name, onProgress: (done, total, unit) => context.progress(`${done} of ${total} ${unit}`) })
  const parity = values.check === true ? await checkParity(path, to, request.out, request) : null
  return { out: request.out, files, sizeBytes: Object.values(files).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0), parity }
}

function exportBundle(request: ExportRequest, context: Context): Promise<ExportResult> {
  return withCore(context, async (core) => {
    const transfer = await followTransfer(core, () => core.client.exchange.export(request), context)
    if (transfer.kind !== 'export' || transfer.result === null) throw new Error('an export that is done has its result')
    return transfer.result
  })
}

export const exportCommand: Command = {
  name: 'export',
  summary: 'a model for transformers, llama.cpp or onnxruntime, or a release bundle',
  usage: '--model M --to hf|gguf|onnx|bundle --out PATH',
  options: {
    model: { type: 'string' }, to: { type: 'string' }, out: { type: 'string' }, type: { type: 'string' }, dtype: { type: 'string' }, experts: { type: 'string' }, name: { type: 'string' }, check: { type: 'boolean' },
    optimizer: { type: 'boolean' }, 'all-checkpoints': { type: 'boolean' },
  },
  help: {
    model: 'checkpoint id (the only kind for a bundle), Hugging Face folder or GGUF file', to: 'hf: a Hugging Face folder; gguf; onnx: with its cache; bundle: everything that made it', out: 'the new folder, or file for gguf',
    type: 'of gguf: bf16, q8 (default) or q4', dtype: 'of hf: bf16 (default) or f32', experts: 'of onnx: operator (default) or plain', name: 'the model’s name inside a GGUF file', check: 'compare what was written with the original',
    optimizer: 'of a bundle: the optimizer’s moments too', 'all-checkpoints': 'of a bundle: every checkpoint of the run',
  },
  async run({ values }, context): Promise<Result> {
    const startedAt = performance.now()
    requiredOption(values, 'model')
    const request = readRequest(values)
    const result = request.to === 'bundle' ? await exportBundle(request, context) : await exportFiles(values, request, request.to, context)
    return { ...result, seconds: (performance.now() - startedAt) / 1000 }
  },
  words: ({ out, files, sizeBytes, parity, seconds }: Result) =>
    [
      ...Object.entries(files).map(([name, { sizeBytes: bytes, sha256 }]) => `${name}: ${bytes} bytes, sha256 ${sha256}`),
      ...(parity === null ? [] : [`compared in ${parity.engine} over ${parity.tokens} tokens: largest difference ${parity.maxDifference.toExponential(2)}, mean ${parity.meanDifference.toExponential(2)} nats`]),
      `${out}: ${(sizeBytes / 2 ** 20).toFixed(1)} MiB, ${seconds.toFixed(1)} s`,
    ].join('\n'),
}
