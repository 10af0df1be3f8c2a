/** `moe generate`: continues a prompt with a checkpoint or a Hugging Face folder. */
import { z } from 'zod'
import type { Tokenizer } from '#core/data/tokenizer.ts'
import { createGenerator } from '#core/model/generator.ts'
import { sampleToken } from '#core/model/sampling.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { readModelTokenizer } from '#core/train/model-tokenizer.ts'
import { numberOption, readJson, UsageError, type Command } from './command.ts'
import { deviceHelp, deviceOptions, dtypeHelp, dtypeOptions, loadModelFor, modelFolder, openBackend } from './model.ts'

type Result = { ids: number[]; text: string | null; tokensPerSecond: number; firstTokenMs: number }

/** The prompt's ids: --prompt-ids is a JSON list or a file with one; --prompt is tokenized after the model's EOS. */
function promptIds(values: Record<string, string | boolean | undefined>, tokenizer: Tokenizer | null, config: ModelConfig): number[] {
  const given = values['prompt-ids']
  if (typeof given === 'string') {
    const schema = z.array(z.int().min(0).max(config.vocab_size - 1)).min(1)
    if (!given.trim().startsWith('[')) return readJson(given, schema)
    const parsed = schema.safeParse(JSON.parse(given))
    if (!parsed.success) throw new UsageError(`--prompt-ids: expected a JSON list of ids in 0..${config.vocab_size - 1}`)
    return parsed.data
  }
  if (typeof values.prompt !== 'string') throw new UsageError('--prompt or --prompt-ids is missing')
  if (!tokenizer) throw new AppError('model.noTokenizer', 'the model folder has no tokenizer.json', { hint: 'Use --prompt-ids, or put the model’s tokenizer.json beside its config.json.' })
  const start = config.eos_token_id === null ? [] : [config.eos_token_id]
  return [...start, ...tokenizer.encode(values.prompt)]
}

export const generate: Command = {
  name: 'generate',
  summary: 'continue a prompt',
  usage: '--model M --prompt TEXT | --prompt-ids F',
  options: {
    model: { type: 'string' }, prompt: { type: 'string' }, 'prompt-ids': { type: 'string' }, max: { type: 'string' },
    temperature: { type: 'string' }, seed: { type: 'string' }, 'top-p': { type: 'string' }, ...dtypeOptions, ...deviceOptions,
  },
  help: {
    model: 'checkpoint id, Hugging Face folder or GGUF file', prompt: 'text to continue', 'prompt-ids': 'token ids instead: a JSON list or a file that holds one',
    max: 'tokens to make (default 100)', temperature: '0 = greedy (default 0.8)', seed: 'of the draws (default 0)', 'top-p': 'nucleus (default 1)', ...dtypeHelp, ...deviceHelp,
  },
  async run({ values }, context): Promise<Result> {
    const folder = modelFolder(values, context)
    const max = numberOption(values, 'max', 100, { min: 1, integer: true })
    const settings = { temperature: numberOption(values, 'temperature', 0.8, { min: 0 }), topP: numberOption(values, 'top-p', 1, { min: 0 }) }
    const random = createRandom(numberOption(values, 'seed', 0, { min: 0, integer: true }), 'sampling')
    const backend = await openBackend(values)
    const { config, weights } = await loadModelFor(backend, folder, values)
    const tokenizer = readModelTokenizer(folder)
    const prompt = promptIds(values, tokenizer, config)
    if (prompt.length + max > config.max_position_embeddings) {
      const params = { found: prompt.length + max, expected: config.max_position_embeddings }
      throw new AppError('tokens.tooLong', `prompt (${prompt.length}) + --max (${max}) exceed the model's context of ${config.max_position_embeddings}`, { params, hint: 'Shorten the prompt or lower --max.' })
    }
    const generator = await createGenerator(backend, config, weights, prompt.length + max)
    const startedAt = performance.now()
    let logits = await generator.feed(prompt)
    const firstTokenMs = performance.now() - startedAt
    const ids: number[] = []
    while (ids.length < max) {
      const { id } = sampleToken(logits, settings, random)
      ids.push(id)
      context.progress(`${ids.length} of ${max} tokens`)
      // A text ends at EOS; a prompt of ids is a measurement and gets all --max tokens.
      if (ids.length === max || (id === config.eos_token_id && typeof values.prompt === 'string')) break
      logits = await generator.feed([id])
    }
    const seconds = (performance.now() - startedAt - firstTokenMs) / 1000
    await backend.close()
    const text = tokenizer ? tokenizer.decode(ids) : null
    return { ids, text, tokensPerSecond: Math.max(0, ids.length - 1) / Math.max(seconds, 1e-9), firstTokenMs }
  },
  words: ({ ids, text, tokensPerSecond, firstTokenMs }: Result) =>
    `${text ?? ids.join(' ')}\n\n${ids.length} tokens, ${tokensPerSecond.toFixed(1)} tokens/s, first token after ${firstTokenMs.toFixed(0)} ms`,
}
