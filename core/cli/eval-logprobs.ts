/** `moe eval-logprobs`: natural-log probability of every token of given sequences, each given those before it. */
import { z } from 'zod'
import { createPackedScorer } from '#core/evaluate/packed-scorer.ts'
import { createScorer } from '#core/evaluate/scorer.ts'
import { readJson, requiredOption, type Command } from './command.ts'
import { deviceHelp, deviceOptions, dtypeHelp, dtypeOptions, loadModelFor, modelFolder, openBackend } from './model.ts'

const tokensSchema = z.array(z.array(z.int().min(0)))

type Result = { logprobs: (number | null)[][] }

export const evalLogprobs: Command = {
  name: 'eval-logprobs',
  summary: 'log-probability of every token of a JSON file [[id,…],…]',
  usage: '--model M --tokens F',
  options: { model: { type: 'string' }, tokens: { type: 'string' }, ...dtypeOptions, ...deviceOptions },
  help: { model: 'checkpoint id, Hugging Face folder or GGUF file', tokens: 'JSON file of token id lists', ...dtypeHelp, ...deviceHelp },
  async run({ values }, context): Promise<Result> {
    const sequences = readJson(requiredOption(values, 'tokens'), tokensSchema)
    const backend = await openBackend(values)
    const model = await loadModelFor(backend, modelFolder(values, context), values)
    const scorer = model.type === 'f32' ? createScorer(backend, model.config, model.weights) : createPackedScorer(backend, model.config, model.weights)
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
