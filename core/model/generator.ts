/** Generation of one sequence, prompt in chunks and then token by token, on any Backend: createSequences of one. */
import type { Backend } from '#core/backend/backend.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import type { PackedWeights } from './packed-weights.ts'
import type { Weights } from './parameters.ts'
import { createSequences, type LayerRouting } from './sequences.ts'

export type Generator = {
  /** Tokens in the cache. */
  readonly length: number
  /** Tokens that fit. */
  readonly capacity: number
  /** Feeds tokens after those in the cache; gives the logits [V] after the last one, good until the next feed. Throws when they do not fit. */
  feed(ids: ArrayLike<number>): Promise<Float32Array>
  /** Routing of the last token fed, by layer. */
  routing(): Promise<LayerRouting[]>
  /** Forgets all but the first `length` tokens. */
  truncate(length: number): void
  release(): void
}

/** Prepares generation with at most `capacity` tokens on allocated (or loaded) `weights`. */
export async function createGenerator(backend: Backend, c: ModelConfig, weights: Weights | PackedWeights, capacity: number): Promise<Generator> {
  const sequences = createSequences(backend, c, weights, { count: 1, capacity })
  return {
    get length() {
      return sequences.length(0)
    },
    capacity,
    feed: (ids) => sequences.feed(0, ids),
    routing: () => sequences.routing(),
    truncate: (length) => sequences.truncate(0, length),
    release: () => sequences.release(),
  }
}
