/** `moe eval-logprobs`: natural-log probability of every token of given sequences, each given those before it. */
import { z } from 'zod'
import { createScorer } from '#core/evaluate/scorer.ts'
import { AppError } from '#core/shared/errors.ts'
import { loadModel } from '#core/train/weights.ts'
import { readJson, requiredOption, UsageError, type Command } from './command.ts'
import { deviceHelp, deviceOptions, modelFolder, openBackend } from './model.ts'

const tokensSchema = z.array(z.array(z.int().min(0)))

type Result = { logprobs: (number | null)[][] }

export const evalLogprobs: Command = {
  name: 'eval-logprobs',
  summary: 'log-probability of every token of a JSON file [[id,…],…]',
  usage: '--model M --tokens F',
  options: { model: { type: 'string' }, tokens: { type: 'string' }, dtype: { type: 'string' }, ...deviceOptions },
  help: { model: 'checkpoint id or Hugging Face folder', tokens: 'JSON file of token id lists', dtype: 'f32 (default)', ...deviceHelp },
  async run({ values }, context): Promise<Result> {
    if (values.dtype !== undefined && values.dtype !== 'f32') {
      throw ['bf16', 'q8', 'q4'].includes(String(values.dtype))
        ? new AppError('dtype.unavailable', `--dtype ${String(values.dtype)} is not built yet`, { params: { dtype: String(values.dtype) }, hint: 'Use --dtype f32.' })
        : new UsageError(`--dtype is "${String(values.dtype)}", expected f32`)
    }
    const sequences = readJson(requiredOption(values, 'tokens'), tokensSchema)
    const backend = await openBackend(values)
    const { config, weights } = await loadModel(backend, modelFolder(values, context))
    const scorer = createScorer(backend, config, weights)
    const logprobs: Result['logprobs'] = []
    for (const [i, ids] of sequences.entries()) {
      context.progress(`sequence ${i + 1} of ${sequences.length}`)
      logprobs.push(await scorer.score(ids))
    }
    await backend.close()
    return { logprobs }
  },
  words: ({ logprobs }: Result) =>
    logprobs
      .map((row, i) => {
        const known = row.filter((value) => value !== null)
        const mean = known.reduce((a, b) => a + b, 0) / Math.max(1, known.length)
        return `sequence ${i}: ${row.length} tokens, mean log-probability ${mean.toFixed(4)}, perplexity ${Math.exp(-mean).toFixed(3)}`
      })
      .join('\n'),
}
