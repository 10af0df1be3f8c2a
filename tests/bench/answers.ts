/** Greedy answers of a model to prompts, several at once: what exact match is counted on. Knows token ids only. */
import type { Backend } from '#core/backend/backend.ts'
import type { PackedWeights } from '#core/model/packed-weights.ts'
import type { Weights } from '#core/model/parameters.ts'
import { argmax } from '#core/model/sampling.ts'
import { createSequences } from '#core/model/sequences.ts'
import type { ModelConfig } from '#core/shared/models.ts'

const together = 16

/** The tokens after each prompt up to (without) `eosId`, at most `maxTokens`. */
export async function answerGreedily(backend: Backend, config: ModelConfig, weights: Weights | PackedWeights, prompts: readonly number[][], { eosId, maxTokens }: { eosId: number; maxTokens: number }): Promise<number[][]> {
  const capacity = Math.max(...prompts.map(({ length }) => length)) + maxTokens
  const sequences = createSequences(backend, config, weights, { count: together, capacity })
  const answers: number[][] = prompts.map(() => [])
  for (let from = 0; from < prompts.length; from += together) {
    const group = prompts.slice(from, from + together)
    let open: { sequence: number; id: number }[] = []
    for (const [sequence, prompt] of group.entries()) {
      sequences.truncate(sequence, 0)
      open.push({ sequence, id: argmax(await sequences.feed(sequence, prompt)) })
    }
    for (;;) {
      open = open.filter(({ sequence, id }) => id !== eosId && answers[from + sequence]!.push(id) < maxTokens)
      if (open.length === 0) break
      const logits = await sequences.step(open)
      open = open.map(({ sequence }, i) => ({ sequence, id: argmax(logits[i]!) }))
    }
  }
  sequences.release()
  return answers
}
