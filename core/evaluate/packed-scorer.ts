/**
 * createScorer on packed weights: log-probabilities through the passes of generation, a chunk of tokens at a time with a cache, so
 * that what is scored is what a chat with the same weights computes.
 */
import { persistent, type Backend, type PreparedPlan, type Tensor } from '#core/backend/backend.ts'
import { record } from '#core/backend/record.ts'
import { headForward, keyValueWidth, modelDecode, type Cache } from '#core/model/olmoe.ts'
import type { PackedWeights } from '#core/model/packed-weights.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { requireScorable, type Scorer } from './scorer.ts'

const chunkTokens = 256

type Pass = { plan: PreparedPlan; ids: Tensor; positions: Tensor; logits: Tensor; lse: Tensor; tensors: Tensor[] }

async function preparePass(backend: Backend, c: ModelConfig, weights: PackedWeights): Promise<Pass> {
  const [T, V] = [Math.min(chunkTokens, c.max_position_embeddings), c.vocab_size]
  const rowsOf = (name: string): Tensor[] => weights.layers.map((_, i) => persistent(`${name}.${i}`, [c.max_position_embeddings, keyValueWidth(c)]))
  const cache: Cache = { keys: rowsOf('cache.k'), values: rowsOf('cache.v') }
  const ids = persistent('ids', [T], 'i32')
  const positions = persistent('positions', [T], 'i32')
  const logits = persistent('logits', [T, V])
  const lse = persistent('lse', [T])
  const tensors = [ids, positions, logits, lse, ...cache.keys, ...cache.values]
  backend.allocate(tensors)
  const plan = await backend.prepare(
    record(`score ${T}`, (b) => {
      headForward(b, weights, logits, modelDecode(b, c, weights, { ids, positions }, cache))
      // A router's softmax over all experts is that of a head over its vocabulary.
      b.routerSoftmaxForward({ probs: b.scratch('probs', [T, V]), lse, logits })
    }),
  )
  return { plan, ids, positions, logits, lse, tensors }
}

/** Scores on loaded `weights`. */
export function createPackedScorer(backend: Backend, c: ModelConfig, weights: PackedWeights): Scorer {
  let pass: Pass | null = null
  return {
    async score(ids) {
      requireScorable(c, ids)
      pass ??= await preparePass(backend, c, weights)
      const T = pass.ids.shape[0]!
      const scores: (number | null)[] = ids.map(() => null)
      for (let from = 0; from < ids.length - 1; from += T) {
        const at = (t: number): number => from + t
        await backend.write(pass.ids, Int32Array.from({ length: T }, (_, t) => ids[at(t)] ?? 0))
        await backend.write(pass.positions, Int32Array.from({ length: T }, (_, t) => (at(t) < ids.length ? at(t) : -1)))
        await pass.plan.run()
        const [logits, lse] = [await backend.read(pass.logits), await backend.read(pass.lse)]
        for (let t = 0; t < T && at(t) + 1 < ids.length; t++) scores[at(t) + 1] = logits[t * c.vocab_size + ids[at(t) + 1]!]! - lse[t]!
      }
      return scores
    },
    release: () => pass && backend.release(pass.tensors),
  }
}
