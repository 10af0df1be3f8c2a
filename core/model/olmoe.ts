/**
 * The OLMoE family as straight-line maths over Backend ops (arXiv 2409.02060, section 2; reference §1.3–1.7): embedding, layers of
 * attention (attention.ts) and feed-forward blocks, final norm; forward, backward, and a step of generation. A feed-forward block adds
 * up to two things to its input: a network that every token passes (a dense layer's own, or shared experts) and routed experts (moe.ts).
 * Kept for the backward: block inputs, what attention and the router need, and pre-activations; norms and SwiGLU are computed again.
 * Gradients of weights accumulate, so micro-batches sum, and so do layers that share their experts.
 *
 * Letters: T tokens = sequences × sequence length, D, V, E, K, F as in backend.ts; S slots; A = D query width, B key-value width.
 */
import type { Recording, Tensor } from '#core/backend/backend.ts'
import { isPacked } from '#core/backend/packed.ts'
import { causal, type ModelConfig } from '#core/shared/models.ts'
import { attentionBackward, attentionForward, projectForward, type AttentionKept, type Batch } from './attention.ts'
import { loadsForward, moeBackward, moeForward, moePacked, type AuxiliaryScales, type Load, type MoeKept, type RoutingTaps } from './moe.ts'
import type { PackedMoeWeights, PackedWeights } from './packed-weights.ts'
import { headWidth, type Layer, type LayerWeights, type MoeWeights, type Weights } from './parameters.ts'
import { denseBackward, denseForward, linear, normBackward, normForward, rows } from './primitives.ts'

type FeedForwardKept = { h: Tensor; rstd: Tensor; denseHidden: Tensor | null; moe: MoeKept | null }
type LayerKept = { attention: AttentionKept; feedForward: FeedForwardKept }
/** `routed` and `loads`: of the layers with experts. */
export type Kept = { layers: LayerKept[]; routed: MoeKept[]; loads: Load[]; x: Tensor; rstd: Tensor; final: Tensor }

/** y = h + dense(u) + moe(u), u = norm(h), of which a layer has at least one. `index`: its place among the layers with experts. */
function feedForward(b: Recording, c: ModelConfig, w: LayerWeights, h: Tensor, sequence: number, index: number, taps: RoutingTaps): { y: Tensor; kept: FeedForwardKept } {
  const { y: u, rstd } = normForward(b, c, 'u', h, w.moeNorm)
  const dense = w.dense && denseForward(b, w.dense, u, h)
  const moe = w.moe && moeForward(b, c, w.moe, u, dense?.y ?? h, sequence, index, taps)
  return { y: moe?.y ?? dense!.y, kept: { h, rstd, denseHidden: dense?.hidden ?? null, moe: moe?.kept ?? null } }
}

/** dH of the feed-forward block from dY. */
function feedForwardBackward(b: Recording, c: ModelConfig, w: LayerWeights, g: LayerWeights, kept: FeedForwardKept, dY: Tensor, load: Load, scales: AuxiliaryScales): Tensor {
  const { h, rstd, denseHidden, moe } = kept
  let u: Tensor | undefined
  const again = (): Tensor => (u ??= normForward(b, c, 'u', h, w.moeNorm).y)
  const routed = moe ? moeBackward(b, c, w.moe!, g.moe!, moe, again, dY, load, scales) : undefined
  const dU = denseHidden ? denseBackward(b, w.dense!, g.dense!, denseHidden, again(), dY, routed) : routed!
  return normBackward(b, 'dH', { dY: dU, x: h, rstd, weight: w.moeNorm, dWeight: g.moeNorm, add: dY })
}

/** Records embedding, all layers and the final norm. `final` [T, D] is what the head reads. */
export function modelForward(b: Recording, c: ModelConfig, w: Weights, batch: Batch, taps: RoutingTaps = {}): Kept {
  let x = b.scratch('x', [rows(batch.ids), c.hidden_size])
  b.embedForward({ x, ids: batch.ids, weight: w.embedding })
  const routed: MoeKept[] = []
  const layers = w.layers.map((layer) => {
    const attention = attentionForward(b, c, layer, x, batch)
    const block = feedForward(b, c, layer, attention.h, batch.sequence, routed.length, taps)
    if (block.kept.moe) routed.push(block.kept.moe)
    x = block.y
    return { attention: attention.kept, feedForward: block.kept }
  })
  const { y: final, rstd } = normForward(b, c, 'final', x, w.finalNorm)
  return { layers, routed, loads: loadsForward(b, c, routed), x, rstd, final }
}

/** Records the gradients of everything below the head, given dFinal [T, D]; `g` accumulates. */
export function modelBackward(b: Recording, c: ModelConfig, w: Weights, g: Weights, batch: Batch, kept: Kept, dFinal: Tensor, scales: AuxiliaryScales): void {
  let dX = normBackward(b, 'dX', { dY: dFinal, x: kept.x, rstd: kept.rstd, weight: w.finalNorm, dWeight: g.finalNorm })
  for (let i = w.layers.length - 1; i >= 0; i--) {
    const { attention, feedForward: block } = kept.layers[i]!
    const load = kept.loads[block.moe ? kept.routed.indexOf(block.moe) : 0]!
    dX = feedForwardBackward(b, c, w.layers[i]!, g.layers[i]!, block, dX, load, scales)
    dX = attentionBackward(b, c, w.layers[i]!, g.layers[i]!, attention, dX, batch)
  }
  b.embedBackward({ dWeight: g.embedding, ids: batch.ids, dX })
}

/** Records the forward pass over whole sequences of which only `final` [T, D] and the taps are wanted, on weights of either kind. */
export function modelInspect(b: Recording, c: ModelConfig, w: Weights | PackedWeights, batch: Batch, taps: RoutingTaps): Tensor {
  let x = embed(b, c, w.embedding, batch.ids)
  let routed = 0
  for (const layer of w.layers) {
    const { h } = attentionForward(b, c, layer, x, batch)
    x = blockForward(b, c, layer, h, batch.sequence, () => routed++, taps)
  }
  return normForward(b, c, 'final', x, w.finalNorm).y
}

/** Rows of the embedding, plain or packed. */
function embed(b: Recording, c: ModelConfig, weight: Tensor, ids: Tensor): Tensor {
  const x = b.scratch('x', [rows(ids), c.hidden_size])
  if (isPacked(weight)) b.embedPackedForward({ x, ids, weight })
  else b.embedForward({ x, ids, weight })
  return x
}

/** y = h + dense(u) + moe(u), u = norm(h), plain or packed, with nothing kept. `next` numbers the layers with experts. */
function blockForward(b: Recording, c: ModelConfig, w: Layer<MoeWeights> | Layer<PackedMoeWeights>, h: Tensor, sequence: number, next: () => number, taps: RoutingTaps): Tensor {
  const { y: u } = normForward(b, c, 'u', h, w.moeNorm)
  const x = w.dense ? denseForward(b, w.dense, u, h).y : h
  if (!w.moe) return x
  return 'gateUp' in w.moe ? moeForward(b, c, w.moe, u, x, sequence, next(), taps).y : moePacked(b, c, w.moe, u, x, next(), taps)
}

/** Key-value cache of one sequence: per layer keys and values [capacity, B]. */
export type Cache = { keys: Tensor[]; values: Tensor[] }

/**
 * T new tokens of a generation. Of one sequence: `positions` are also their cache rows. Of several: token t goes to row rows[t] of a
 * cache in which sequence i owns `capacity` rows from i·capacity on.
 */
export type DecodeBatch = { ids: Tensor; positions: Tensor; sequences?: { rows: Tensor; capacity: number } }

/**
 * Records a step of generation: new tokens extend the cache, attend to it, and give final [T, D].
 * A negative position (or row) marks padding; its row of `final` is meaningless.
 * Experts cannot choose among tokens that are yet to come: a model trained with expert choice routes by token choice here.
 */
export function modelDecode(b: Recording, config: ModelConfig, w: Weights | PackedWeights, batch: DecodeBatch, cache: Cache, taps: RoutingTaps = {}): Tensor {
  const c = causal(config)
  const { ids, positions, sequences } = batch
  const heads = { H: c.num_attention_heads, G: c.num_key_value_heads }
  let x = embed(b, c, w.embedding, ids)
  let routed = 0
  w.layers.forEach((layer, i) => {
    const { q, k, v } = projectForward(b, c, layer, x, positions)
    const [cacheK, cacheV] = [cache.keys[i]!, cache.values[i]!]
    b.kvAppendForward({ cacheK, cacheV, k, v, positions: sequences?.rows ?? positions })
    const o = b.scratch('o', q.shape)
    if (sequences) b.attentionSequencesForward({ o, q, cacheK, cacheV, ...sequences, ...heads })
    else b.attentionCachedForward({ o, q, cacheK, cacheV, positions, ...heads })
    x = blockForward(b, c, layer, linear(b, 'h', o, layer.output, x), rows(x), () => routed++, taps)
  })
  return normForward(b, c, 'final', x, w.finalNorm).y
}

/** Records logits [T, V] of `final` [T, D]. */
export function headForward(b: Recording, w: Weights | PackedWeights, logits: Tensor, final: Tensor): void {
  if (isPacked(w.head)) b.linearPackedForward({ y: logits, x: final, weight: w.head })
  else b.linearForward({ y: logits, x: final, weight: w.head })
}

/** Width of the key-value rows of a cache. */
export function keyValueWidth(c: ModelConfig): number {
  return headWidth(c) * c.num_key_value_heads
}
