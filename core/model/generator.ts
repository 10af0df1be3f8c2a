/**
 * Generation with a key-value cache: one sequence, fed in chunks (prompt) or one token at a time, on any Backend.
 * Two recorded plans share the weights and the cache. The routing of the last token fed can be read after every feed.
 * It knows nothing of text, sampling or stopping.
 */
import { persistent, type Backend, type PreparedPlan, type Tensor } from '#core/backend/backend.ts'
import { record } from '#core/backend/record.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { headForward, keyValueWidth, modelDecode, type Cache } from './olmoe.ts'
import type { PackedWeights } from './packed-weights.ts'
import type { Weights } from './parameters.ts'

/** Experts of one token in one layer, strongest gate first, and their gate weights. */
export type LayerRouting = { experts: number[]; weights: number[] }

export type Generator = {
  /** Tokens in the cache. */
  readonly length: number
  /** Tokens that fit. */
  readonly capacity: number
  /** Feeds tokens after those in the cache; gives the logits [V] after the last one. Throws when they do not fit. */
  feed(ids: ArrayLike<number>): Promise<Float32Array>
  /** Routing of the last token fed, by layer. */
  routing(): Promise<LayerRouting[]>
  /** Forgets all but the first `length` tokens. */
  truncate(length: number): void
  release(): void
}

type Step = { tokens: number; plan: PreparedPlan; ids: Tensor; positions: Tensor; last: Tensor; experts: Tensor[]; gate: Tensor[] }

const promptChunk = 64

/** Prepares generation with at most `capacity` tokens on allocated `weights`. */
export async function createGenerator(backend: Backend, c: ModelConfig, weights: Weights | PackedWeights, capacity: number): Promise<Generator> {
  const layers = Array.from({ length: c.num_hidden_layers }, (_, i) => i)
  const rowsOf = (name: string): Tensor[] => layers.map((i) => persistent(`${name}.${i}`, [capacity, keyValueWidth(c)]))
  const cache: Cache = { keys: rowsOf('cache.k'), values: rowsOf('cache.v') }
  const logits = persistent('logits', [1, c.vocab_size])
  const allocated: Tensor[][] = [[...cache.keys, ...cache.values, logits]]
  backend.allocate(allocated[0]!)

  const prepareStep = async (tokens: number): Promise<Step> => {
    const ids = persistent('ids', [tokens], 'i32')
    const positions = persistent('positions', [tokens], 'i32')
    const last = persistent('last', [1], 'i32')
    const experts = layers.map((i) => persistent(`experts.${i}`, [tokens, c.num_experts_per_tok], 'i32'))
    const gate = layers.map((i) => persistent(`gate.${i}`, [tokens, c.num_experts_per_tok]))
    const tensors = [ids, positions, last, ...experts, ...gate]
    backend.allocate(tensors)
    allocated.push(tensors)
    const plan = await backend.prepare(
      record(`feed ${tokens}`, (b) => {
        const final = modelDecode(b, c, weights, { ids, positions }, cache, { experts, gate })
        const y = b.scratch('lastFinal', [1, c.hidden_size])
        b.gatherRowsForward({ y, x: final, rows: last })
        headForward(b, weights, logits, y)
      }),
    )
    return { tokens, plan, ids, positions, last, experts, gate }
  }
  const single = await prepareStep(1)
  const chunk = await prepareStep(Math.min(promptChunk, capacity))

  let length = 0
  let lastStep: { step: Step; row: number } | null = null

  const feedChunk = async (ids: readonly number[]): Promise<void> => {
    const step = ids.length === 1 ? single : chunk
    const positions = new Int32Array(step.tokens).fill(-1)
    const padded = new Int32Array(step.tokens)
    ids.forEach((id, i) => {
      positions[i] = length + i
      padded[i] = id
    })
    await backend.write(step.ids, padded)
    await backend.write(step.positions, positions)
    await backend.write(step.last, Int32Array.of(ids.length - 1))
    await step.plan.run()
    length += ids.length
    lastStep = { step, row: ids.length - 1 }
  }

  return {
    get length() {
      return length
    },
    capacity,
    async feed(ids) {
      if (ids.length === 0) throw new Error('generator: nothing to feed')
      if (length + ids.length > capacity) throw new Error(`generator: ${length} + ${ids.length} tokens do not fit ${capacity}`)
      for (let from = 0; from < ids.length; from += chunk.tokens) {
        await feedChunk(Array.from({ length: Math.min(chunk.tokens, ids.length - from) }, (_, i) => ids[from + i]!))
      }
      return (await backend.read(logits)) as Float32Array
    },
    async routing() {
      if (!lastStep) return []
      const { step, row } = lastStep
      const K = c.num_experts_per_tok
      const rowOf = async (tensor: Tensor): Promise<number[]> => Array.from((await backend.read(tensor)).subarray(row * K, (row + 1) * K))
      return Promise.all(layers.map(async (i) => ({ experts: await rowOf(step.experts[i]!), weights: await rowOf(step.gate[i]!) })))
    },
    truncate(to) {
      length = Math.min(length, to)
      lastStep = null
    },
    release: () => allocated.forEach((tensors) => backend.release(tensors)),
  }
}
