/**
 * One recorded forward pass that shows its routing: experts, gates and router logits of every layer, the predicted token and the loss of the
 * target. The head runs in chunks of rows, so that logits are never whole: softmax, argmax and the target's probability are the router's own
 * ops over the vocabulary. What a batch gives is copied out before the next one runs, so counting can go on beside it.
 */
import { persistent, type Backend, type PreparedPlan, type Tensor } from '#core/backend/backend.ts'
import { record } from '#core/backend/record.ts'
import { headForward, modelInspect } from '#core/model/olmoe.ts'
import type { PackedWeights } from '#core/model/packed-weights.ts'
import type { Weights } from '#core/model/parameters.ts'
import { AppError } from '#core/shared/errors.ts'
import { moeLayers, type ModelConfig } from '#core/shared/models.ts'
import type { Observed, Shape } from './counters.ts'

export type PassOptions = {
  /** Tokens of a sequence, and sequences of a batch. */
  sequence: number
  sequences: number
  /** Predicted tokens and losses too; without, `predicted` and `loss` are empty. */
  head: boolean
  /** Adds what setBias wrote to the router's logits. */
  bias?: boolean
}

export type RoutedPass = {
  /** Tokens of a batch. */
  readonly tokens: number
  /** Puts a batch in place; `targets` < 0 have no loss. */
  write(ids: Int32Array, targets: Int32Array): Promise<void>
  run(): Promise<void>
  /** What the last run showed. */
  read(): Promise<Observed>
  /** Sets what is added to the logits [E] of one of the layers that have experts. */
  setBias(layer: number, bias: Float32Array): Promise<void>
  release(): void
}

/** Bytes of logits that one chunk of the head may take. */
const headChunkBytes = 32 << 20

/** The shape of a model's routing. Throws AppError analyze.noExperts or analyze.expertChoice. */
export function routingShape(c: ModelConfig): Shape {
  const layers = moeLayers(c).length
  if (layers === 0) throw new AppError('analyze.noExperts', 'The model has no experts: it is dense', { hint: 'Choose a checkpoint of a mixture-of-experts model.' })
  if (c.routing !== 'token_choice') {
    throw new AppError('analyze.expertChoice', 'With expert choice a token has no fixed number of experts: these analyses are not defined for it', { hint: 'Choose a checkpoint whose tokens choose their experts.' })
  }
  return { layers, experts: c.num_experts, topK: c.num_experts_per_tok, vocabulary: c.vocab_size }
}

type Chunk = { rows: Tensor; first: number; targets: Tensor; predicted: Tensor; probability: Tensor }

function declareChunks(T: number, V: number): Chunk[] {
  const size = Math.min(T, Math.max(16, Math.floor(headChunkBytes / (4 * V))))
  return Array.from({ length: Math.ceil(T / size) }, (_, i) => {
    const count = Math.min(size, T - i * size)
    return {
      first: i * size,
      rows: persistent(`rows.${i}`, [count], 'i32'),
      targets: persistent(`targets.${i}`, [count, 1], 'i32'),
      predicted: persistent(`predicted.${i}`, [count, 1], 'i32'),
      probability: persistent(`probability.${i}`, [count, 1]),
    }
  })
}

/** Prepares the pass on allocated (or loaded) `weights`. */
export async function createRoutedPass(backend: Backend, c: ModelConfig, weights: Weights | PackedWeights, options: PassOptions): Promise<RoutedPass> {
  const { experts: E, topK: K, vocabulary: V } = routingShape(c)
  const T = options.sequence * options.sequences
  const layers = moeLayers(c)
  const tap = (name: string, width: number, dtype?: 'i32'): Tensor[] => layers.map((layer) => persistent(`${name}.${layer}`, [T, width], dtype))
  const taps = { experts: tap('experts', K, 'i32'), gate: tap('gate', K), logits: tap('routerLogits', E), ...(options.bias && { bias: tap('bias', E) }) }
  const batch = { ids: persistent('ids', [T], 'i32'), positions: persistent('positions', [T], 'i32'), sequence: options.sequence }
  const chunks = options.head ? declareChunks(T, V) : []
  const outputs = [...taps.experts, ...taps.gate, ...taps.logits]
  const tensors = [batch.ids, batch.positions, ...outputs, ...(taps.bias ?? []), ...chunks.flatMap(({ rows, targets, predicted, probability }) => [rows, targets, predicted, probability])]
  backend.allocate(tensors)
  const plan: PreparedPlan = await backend.prepare(
    record('routed pass', (b) => {
      const final = modelInspect(b, c, weights, batch, taps)
      for (const { rows, targets, predicted, probability } of chunks) {
        const count = rows.shape[0]!
        const x = b.scratch('headRows', [count, c.hidden_size])
        b.gatherRowsForward({ y: x, x: final, rows })
        const logits = b.scratch('headLogits', [count, V])
        headForward(b, weights, logits, x)
        const probs = b.scratch('headProbs', [count, V])
        b.routerSoftmaxForward({ probs, lse: b.scratch('headLse', [count]), logits })
        b.routerTopKForward({ experts: predicted, probs })
        b.routerGateForward({ gate: probability, probs, experts: targets, normalise: 0 })
      }
    }),
  )
  await backend.write(batch.positions, Int32Array.from({ length: T }, (_, t) => t % options.sequence))
  for (const { rows, first } of chunks) await backend.write(rows, Int32Array.from({ length: rows.shape[0]! }, (_, i) => first + i))
  let written: Pick<Observed, 'ids' | 'targets'> = { ids: new Int32Array(T), targets: new Int32Array(T) }
  let shown = written

  return {
    tokens: T,
    async write(ids, targets) {
      await backend.write(batch.ids, ids)
      for (const chunk of chunks) {
        const part = targets.subarray(chunk.first, chunk.first + chunk.rows.shape[0]!)
        await backend.write(chunk.targets, part.map((target) => Math.max(0, target)))
      }
      written = { ids, targets }
    },
    async run() {
      shown = written
      await plan.run()
    },
    async read() {
      const data = await backend.snapshot([...outputs, ...chunks.flatMap(({ predicted, probability }) => [predicted, probability])]).read()
      const L = layers.length
      const predicted = new Int32Array(chunks.length > 0 ? T : 0)
      const loss = new Float32Array(predicted.length)
      chunks.forEach(({ first }, i) => {
        predicted.set(data[3 * L + 2 * i]! as Int32Array, first)
        data[3 * L + 2 * i + 1]!.forEach((p, row) => (loss[first + row] = -Math.log(Math.max(p, 1e-37))))
      })
      const floats = (from: number): Float32Array[] => data.slice(from, from + L) as Float32Array[]
      return { ...shown, predicted, loss, experts: data.slice(0, L) as Int32Array[], gate: floats(L), logits: floats(2 * L) }
    },
    async setBias(layer, bias) {
      const rows = new Float32Array(T * E)
      for (let t = 0; t < T; t++) rows.set(bias, t * E)
      await backend.write(taps.bias![layer]!, rows)
    },
    release: () => backend.release(tensors),
  }
}
