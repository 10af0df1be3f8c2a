/** A loaded model as the harness sees it: text in, log-probabilities or greedy text out. What does not fit the context is cut from the left. */
import type { Backend } from '#core/backend/backend.ts'
import type { Tokenizer } from '#core/data/tokenizer.ts'
import { createGenerator } from '#core/model/generator.ts'
import type { PackedWeights } from '#core/model/packed-weights.ts'
import { argmax } from '#core/model/sampling.ts'
import type { Weights } from '#core/model/parameters.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import type { Scorer } from './scorer.ts'

export type Subject = {
  /** Σ log p of the tokens of `continuation` after `context`; a model begins with its end-of-text token. */
  logProbability(context: string, continuation: string): Promise<number>
  /** Σ log p over all tokens of a document, in windows of the context that share one token, and how many tokens that were. */
  document(text: string): Promise<{ logProbability: number; tokens: number }>
  /** What the model writes after `context`, greedily. */
  generate(context: string, options: { maxTokens: number; stop: readonly string[] }): Promise<string>
}

export type LoadedSubject = { config: ModelConfig; weights: Weights | PackedWeights; tokenizer: Tokenizer; scorer: Scorer }

const sum = (values: readonly (number | null)[]): number => values.reduce<number>((total, value) => total + (value ?? 0), 0)

export function createSubject(backend: Backend, { config, weights, tokenizer, scorer }: LoadedSubject): Subject {
  const capacity = config.max_position_embeddings
  const start = [config.eos_token_id ?? 0]
  const generator = createGenerator(backend, config, weights, capacity)

  return {
    async logProbability(context, continuation) {
      const after = [...tokenizer.encode(continuation)].slice(-(capacity - 1))
      const before = [...start, ...tokenizer.encode(context)].slice(-(capacity - after.length))
      return sum((await scorer.score([...before, ...after])).slice(before.length))
    },
    async document(text) {
      const ids = [...start, ...tokenizer.encode(text, { special: 'text' })]
      let logProbability = 0
      for (let from = 0; from < ids.length - 1; from += capacity - 1) logProbability += sum(await scorer.score(ids.slice(from, from + capacity)))
      return { logProbability, tokens: ids.length - 1 }
    },
    async generate(context, { maxTokens, stop }) {
      const sequence = await generator
      sequence.truncate(0)
      const room = Math.min(maxTokens, capacity - 1)
      let logits = await sequence.feed([...start, ...tokenizer.encode(context)].slice(-(capacity - room)))
      const ids: number[] = []
      let text = ''
      while (ids.length < room) {
        const id = argmax(logits)
        if (id === config.eos_token_id) break
        text = tokenizer.decode([...ids, id])
        ids.push(id)
        const ends = stop.map((one) => text.indexOf(one)).filter((at) => at >= 0)
        if (ends.length > 0) return text.slice(0, Math.min(...ends))
        if (ids.length < room) logits = await sequence.feed([id])
      }
      return text
    },
  }
}
