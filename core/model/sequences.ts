/**
 * Generation of several sequences at once with key-value caches: each is fed its prompt in chunks, then one step decodes a token of
 * each, so that weights, and experts that tokens share, are read once for all of them. One sequence alone runs on any Backend.
 * Plans are recorded for a few numbers of tokens as they are needed; they share weights, caches and scratch.
 * It knows nothing of text, sampling or stopping.
 */
import { persistent, type Backend, type PreparedPlan, type Tensor, type TensorData } from '#core/backend/backend.ts'
import { record } from '#core/backend/record.ts'
import { moeLayers, type ModelConfig } from '#core/shared/models.ts'
import { headForward, keyValueWidth, modelDecode, type Cache } from './olmoe.ts'
import type { PackedWeights } from './packed-weights.ts'
import type { Weights } from './parameters.ts'

/** Experts of one token in one layer, strongest gate first, and their gate weights. */
export type LayerRouting = { experts: number[]; weights: number[] }

export type Sequences = {
  /** Tokens that fit into one sequence. */
  readonly capacity: number
  /** Tokens in the cache of a sequence. */
  length(sequence: number): number
  /** Feeds tokens after those in the cache; gives the logits [V] after the last one, good until the next feed or step. Throws when they do not fit. */
  feed(sequence: number, ids: ArrayLike<number>): Promise<Float32Array>
  /** As feed, but gives the logits after each of the tokens: a chunk of a prompt that is scored, at most 512. */
  feedAll(sequence: number, ids: ArrayLike<number>): Promise<Float32Array[]>
  /** Feeds one token of each of several different sequences; gives the logits [V] after each, in their order, good until the next feed or step. */
  step(tokens: readonly { sequence: number; id: number }[]): Promise<Float32Array[]>
  /** Routing of token `row` of the last step, or of the last token fed, by layer with experts. */
  routing(row?: number): Promise<LayerRouting[]>
  /** Forgets all but the first `length` tokens of a sequence. */
  truncate(sequence: number, length: number): void
  release(): void
}

/** A recorded pass over `tokens` tokens that gives the logits after some of them. */
type Pass = { tokens: number; plan: PreparedPlan; ids: Tensor; positions: Tensor; rows: Tensor; last: Tensor; logits: Tensor; experts: Tensor[]; gate: Tensor[]; buffer: Float32Array }
type Token = { id: number; position: number; sequence: number }

/** Numbers of tokens that passes are recorded for: a chunk is padded to the next. */
const passSizes = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512]

/** Prepares generation of `count` sequences of at most `capacity` tokens on allocated (or loaded) `weights`. */
export function createSequences(backend: Backend, c: ModelConfig, weights: Weights | PackedWeights, { count, capacity }: { count: number; capacity: number }): Sequences {
  const layers = Array.from({ length: c.num_hidden_layers }, (_, i) => i)
  const routed = moeLayers(c)
  const cacheRows = (name: string): Tensor[] => layers.map((i) => persistent(`${name}.${i}`, [count * capacity, keyValueWidth(c)]))
  const cache: Cache = { keys: cacheRows('cache.k'), values: cacheRows('cache.v') }
  const allocated: Tensor[][] = [[...cache.keys, ...cache.values]]
  backend.allocate(allocated[0]!)
  const lengths = new Array<number>(count).fill(0)
  const passes = new Map<string, Promise<Pass>>()
  let lastPass: { pass: Pass; rows: number; routing: Promise<{ experts: TensorData; weights: TensorData }[]> | null } | null = null

  const prepare = async (tokens: number, outputs: number): Promise<Pass> => {
    const int = (name: string, size: number): Tensor => persistent(name, [size], 'i32')
    const [ids, positions, rows, last] = [int('ids', tokens), int('positions', tokens), int('rows', tokens), int('last', outputs)]
    const logits = persistent('logits', [outputs, c.vocab_size])
    const experts = routed.map((i) => persistent(`experts.${i}`, [tokens, c.num_experts_per_tok], 'i32'))
    const gate = routed.map((i) => persistent(`gate.${i}`, [tokens, c.num_experts_per_tok]))
    const tensors = [ids, positions, rows, last, logits, ...experts, ...gate]
    backend.allocate(tensors)
    allocated.push(tensors)
    const plan = await backend.prepare(
      record(`feed ${tokens}`, (b) => {
        const batch = count > 1 ? { ids, positions, sequences: { rows, capacity } } : { ids, positions }
        const final = modelDecode(b, c, weights, batch, cache, { experts, gate })
        if (tokens === outputs) return headForward(b, weights, logits, final)
        const y = b.scratch('lastFinal', [outputs, c.hidden_size])
        b.gatherRowsForward({ y, x: final, rows: last })
        headForward(b, weights, logits, y)
      }),
    )
    return { tokens, plan, ids, positions, rows, last, logits, experts, gate, buffer: new Float32Array(outputs * c.vocab_size) }
  }

  /** Runs `tokens`, padded to a recorded size; logits after all of them, or after the last. */
  const run = async (tokens: readonly Token[], all: boolean): Promise<Pass> => {
    const size = Math.min(passSizes.find((candidate) => candidate >= tokens.length) ?? tokens.length, Math.max(capacity, count))
    const outputs = all ? size : 1
    const key = `${size} ${outputs}`
    if (!passes.has(key)) passes.set(key, prepare(size, outputs))
    const pass = await passes.get(key)!
    const padded = (of: (token: Token) => number, padding: number): Int32Array => Int32Array.from({ length: size }, (_, i) => (i < tokens.length ? of(tokens[i]!) : padding))
    await backend.write(pass.ids, padded(({ id }) => id, 0))
    await backend.write(pass.positions, padded(({ position }) => position, -1))
    if (count > 1) await backend.write(pass.rows, padded(({ sequence, position }) => sequence * capacity + position, -1))
    if (!all) await backend.write(pass.last, Int32Array.of(tokens.length - 1))
    await pass.plan.run()
    for (const { sequence } of tokens) lengths[sequence]!++
    lastPass = { pass, rows: tokens.length, routing: null }
    return pass
  }

  const logitsOf = async (pass: Pass): Promise<Float32Array> => (await backend.read(pass.logits, pass.buffer)) as Float32Array

  const rowsOf = async (pass: Pass, count: number): Promise<Float32Array[]> => {
    const logits = await logitsOf(pass)
    return Array.from({ length: count }, (_, i) => logits.subarray(i * c.vocab_size, (i + 1) * c.vocab_size))
  }

  const requireRoom = (sequence: number, more: number): void => {
    const length = lengths[sequence]
    if (length === undefined) throw new Error(`generator: there is no sequence ${sequence}`)
    if (length + more > capacity) throw new Error(`generator: ${length} + ${more} tokens do not fit ${capacity}`)
  }

  return {
    capacity,
    length: (sequence) => lengths[sequence]!,
    async feed(sequence, ids) {
      if (ids.length === 0) throw new Error('generator: nothing to feed')
      requireRoom(sequence, ids.length)
      const chunk = passSizes.at(-1)!
      let pass: Pass | null = null
      for (let from = 0; from < ids.length; from += chunk) {
        const start = lengths[sequence]!
        pass = await run(Array.from({ length: Math.min(chunk, ids.length - from) }, (_, i) => ({ id: ids[from + i]!, position: start + i, sequence })), false)
      }
      return logitsOf(pass!)
    },
    async feedAll(sequence, ids) {
      requireRoom(sequence, ids.length)
      const start = lengths[sequence]!
      return rowsOf(await run(Array.from({ length: ids.length }, (_, i) => ({ id: ids[i]!, position: start + i, sequence })), true), ids.length)
    },
    async step(tokens) {
      if (new Set(tokens.map(({ sequence }) => sequence)).size < tokens.length) throw new Error('generator: a step takes one token of a sequence')
      tokens.forEach(({ sequence }) => requireRoom(sequence, 1))
      const pass = await run(tokens.map(({ sequence, id }) => ({ id, sequence, position: lengths[sequence]! })), true)
      return rowsOf(pass, tokens.length)
    },
    async routing(row) {
      if (!lastPass) return []
      const { pass, rows } = lastPass
      const [K, at] = [c.num_experts_per_tok, row ?? rows - 1]
      lastPass.routing ??= Promise.all(routed.map(async (_, i) => ({ experts: await backend.read(pass.experts[i]!), weights: await backend.read(pass.gate[i]!) })))
      const rowOf = (all: TensorData): number[] => Array.from(all.subarray(at * K, (at + 1) * K))
      return (await lastPass.routing).map(({ experts, weights }) => ({ experts: rowOf(experts), weights: rowOf(weights) }))
    },
    truncate(sequence, to) {
      lengths[sequence] = Math.min(lengths[sequence]!, to)
      lastPass = null
    },
    release: () => allocated.forEach((tensors) => backend.release(tensors)),
  }
}
