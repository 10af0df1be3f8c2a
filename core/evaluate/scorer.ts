/**
 * Natural-log probabilities of given tokens under a model: what perplexity, cloze tasks and eval-logprobs stand on.
 * Sequences are padded to a few lengths, so that any set of them runs on a handful of recorded plans; attention is causal and
 * routing dropless (token choice, as in generation, also of a model trained with expert choice), so padding changes nothing before it.
 */
import { persistent, type Backend, type PreparedPlan, type Tensor } from '#core/backend/backend.ts'
import { record } from '#core/backend/record.ts'
import { modelForward } from '#core/model/olmoe.ts'
import type { Weights } from '#core/model/parameters.ts'
import { AppError } from '#core/shared/errors.ts'
import { causal, type ModelConfig } from '#core/shared/models.ts'

type Pass = { length: number; plan: PreparedPlan; ids: Tensor; targets: Tensor; loss: Tensor; tensors: Tensor[] }

export type Scorer = {
  /** log p(ids[t] | ids[0..t)) for t ≥ 1; the first is null. */
  score(ids: readonly number[]): Promise<(number | null)[]>
  release(): void
}

/** A power of two from 16 up that holds `length`, at most `limit`. */
function paddedLength(length: number, limit: number): number {
  let padded = 16
  while (padded < length) padded *= 2
  return Math.max(length, Math.min(padded, limit))
}

/** Throws AppError `tokens.outOfRange` or `tokens.tooLong` for what the model cannot be asked about. */
export function requireScorable(c: ModelConfig, ids: readonly number[]): void {
  const bad = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id >= c.vocab_size)
  if (bad >= 0) {
    const params = { position: bad, found: String(ids[bad]), expected: `0..${c.vocab_size - 1}` }
    throw new AppError('tokens.outOfRange', `token ${bad} is ${String(ids[bad])}, expected an id in 0..${c.vocab_size - 1}`, { params, hint: 'Tokenize with the model’s own tokenizer.' })
  }
  if (ids.length > c.max_position_embeddings) {
    const params = { found: ids.length, expected: c.max_position_embeddings }
    throw new AppError('tokens.tooLong', `${ids.length} tokens, the model's context is ${c.max_position_embeddings}`, { params, hint: 'Split the text into shorter pieces.' })
  }
}

/** Scores on allocated `weights`. */
export function createScorer(backend: Backend, c: ModelConfig, weights: Weights): Scorer {
  const passes = new Map<number, Pass>()

  const prepare = async (length: number): Promise<Pass> => {
    const ids = persistent('ids', [length], 'i32')
    const positions = persistent('positions', [length], 'i32')
    const targets = persistent('targets', [length], 'i32')
    const loss = persistent('loss', [length])
    const tensors = [ids, positions, targets, loss]
    backend.allocate(tensors)
    await backend.write(positions, Int32Array.from({ length }, (_, t) => t))
    const plan = await backend.prepare(
      record(`score ${length}`, (b) => {
        const { final } = modelForward(b, causal(c), weights, { ids, positions, sequence: length })
        b.headCrossEntropyForward({ loss, lse: b.scratch('lse', [length]), x: final, weight: weights.head, targets })
      }),
    )
    const pass = { length, plan, ids, targets, loss, tensors }
    passes.set(length, pass)
    return pass
  }

  return {
    async score(ids) {
      requireScorable(c, ids)
      if (ids.length < 2) return ids.map(() => null)
      const length = paddedLength(ids.length, c.max_position_embeddings)
      const pass = passes.get(length) ?? (await prepare(length))
      await backend.write(pass.ids, Int32Array.from({ length }, (_, t) => ids[t] ?? 0))
      await backend.write(pass.targets, Int32Array.from({ length }, (_, t) => ids[t + 1] ?? -1))
      await pass.plan.run()
      const loss = await backend.read(pass.loss)
      return ids.map((_, t) => (t === 0 ? null : -loss[t - 1]!))
    },
    release: () => passes.forEach((pass) => backend.release(pass.tensors)),
  }
}
