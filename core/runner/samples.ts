/**
 * Continues the recipe's prompts with the weights of a training as they are, at a checkpoint. The draws have a seed of their own, so
 * samples change nothing of the training. Refuses expert choice, where a token's experts depend on the tokens after it.
 */
import type { Backend } from '#core/backend/backend.ts'
import type { Tokenizer } from '#core/data/tokenizer.ts'
import { createGenerator } from '#core/model/generator.ts'
import type { Weights } from '#core/model/parameters.ts'
import { sampleToken } from '#core/model/sampling.ts'
import { createRandom } from '#core/shared/random.ts'
import type { RunConfig } from '#core/shared/runs.ts'

const settings = { temperature: 0.8, topP: 0.95 }

/** One text per prompt, without the prompt. */
export async function sampleTexts(backend: Backend, config: RunConfig, weights: Weights, tokenizer: Tokenizer): Promise<string[]> {
  const { prompts, sampleTokens } = config.control
  const capacity = Math.min(config.model.max_position_embeddings, Math.max(2 * sampleTokens, 256))
  const eos = config.model.eos_token_id ?? 0
  const generator = await createGenerator(backend, config.model, weights, capacity)
  const texts: string[] = []
  for (const prompt of prompts) {
    const random = createRandom(config.seed, `samples/${prompt}`)
    const room = Math.max(1, capacity - sampleTokens)
    generator.truncate(0)
    let logits = await generator.feed([eos, ...tokenizer.encode(prompt)].slice(-room))
    const decoder = tokenizer.createDecoder()
    let text = ''
    for (let made = 0; made < sampleTokens && generator.length < capacity; made++) {
      const { id } = sampleToken(logits, settings, random)
      if (id === eos) break
      text += decoder.push(id)
      logits = await generator.feed([id])
    }
    texts.push(text)
  }
  generator.release()
  return texts
}
