/**
 * The OLMoE forward and backward passes as straight-line maths over Backend ops (arXiv 2409.02060, section 2; reference §1.3–1.7).
 * Forward and backward of a block stand side by side. Kept for the backward: block inputs, what attention and the router need,
 * and the experts' pre-activations; norms and SwiGLU are computed again. Gradients of weights accumulate, so micro-batches sum.
 *
 * Letters: T tokens = sequences × sequence length, D, V, E, K, F as in backend.ts; S = T·K slots; A = D query width, B key-value width.
 */
import type { Recording, Tensor } from '#core/backend/backend.ts'
import { isPacked } from '#core/backend/packed.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import type { PackedLayerWeights, PackedWeights } from './packed-weights.ts'
import { headWidth, type LayerWeights, type Weights } from './parameters.ts'

/** Tokens to run on: ids [T] and their positions [T], in sequences of `sequence` tokens. */
export type Batch = { ids: Tensor; positions: Tensor; sequence: number }

/** Persistent tensors, one per layer, that a pass writes its routing to (instead of scratch), or reads its experts from. */
export type RoutingTaps = {
  counts?: Tensor[] // i32 [E]
  experts?: Tensor[] // i32 [T, K]
  gate?: Tensor[] // [T, K]
  logits?: Tensor[] // [T, E]
  /** Experts are inputs: the router's top-k is not taken (forced routing). */
  forced?: boolean
}

/** What the auxiliary losses add to the gradient: weights already divided by layers and micro-batches. */
export type AuxiliaryScales = { loadBalance: number; routerZ: number }

/** What layers for training and for inference have alike. */
type SharedLayerWeights = Omit<LayerWeights, 'gateUp' | 'down'>
type AttentionKept = { x: Tensor; rstd: Tensor; q0: Tensor; k0: Tensor; qRstd: Tensor; kRstd: Tensor; q: Tensor; k: Tensor; v: Tensor }
type MoeKept = {
  h: Tensor
  rstd: Tensor
  probs: Tensor
  lse: Tensor
  experts: Tensor
  gate: Tensor
  counts: Tensor
  offsets: Tensor
  slotToken: Tensor
  slotIndex: Tensor
  tokenSlot: Tensor
  hidden: Tensor
}
type LayerKept = { attention: AttentionKept & { o: Tensor; lse: Tensor }; moe: MoeKept }
export type Kept = { layers: LayerKept[]; x: Tensor; rstd: Tensor; final: Tensor }

const rows = (tensor: Tensor): number => tensor.shape[0]!

function normForward(b: Recording, c: ModelConfig, name: string, x: Tensor, weight: Tensor): { y: Tensor; rstd: Tensor } {
  const y = b.scratch(name, x.shape)
  const rstd = b.scratch(`${name}.rstd`, [rows(x)])
  b.rmsNormForward({ y, rstd, x, weight, eps: c.rms_norm_eps })
  return { y, rstd }
}

function linear(b: Recording, name: string, x: Tensor, weight: Tensor, add?: Tensor): Tensor {
  const y = b.scratch(name, [rows(x), weight.shape[0]!])
  if (isPacked(weight)) b.linearPackedForward({ y, x, weight, add })
  else b.linearForward({ y, x, weight, add })
  return y
}

function linearInput(b: Recording, name: string, dY: Tensor, weight: Tensor, add?: Tensor): Tensor {
  const dX = b.scratch(name, [rows(dY), weight.shape[1]!])
  b.linearBackwardInput({ dX, dY, weight, add })
  return dX
}

/** a = RMS(x); q, k, v = Wq a, Wk a, Wv a; q, k normed over their full width, then rotated head by head. */
function projectForward(b: Recording, c: ModelConfig, w: SharedLayerWeights, x: Tensor, positions: Tensor): AttentionKept {
  const { y: a, rstd } = normForward(b, c, 'a', x, w.attentionNorm)
  const q0 = linear(b, 'q0', a, w.query) // [T, A]
  const k0 = linear(b, 'k0', a, w.key) // [T, B]
  const v = linear(b, 'v', a, w.value) // [T, B]
  const qn = normForward(b, c, 'qn', q0, w.queryNorm)
  const kn = normForward(b, c, 'kn', k0, w.keyNorm)
  const q = b.scratch('q', q0.shape)
  const k = b.scratch('k', k0.shape)
  b.ropeForward({ y: q, x: qn.y, positions, H: c.num_attention_heads, theta: c.rope_theta })
  b.ropeForward({ y: k, x: kn.y, positions, H: c.num_key_value_heads, theta: c.rope_theta })
  return { x, rstd, q0, k0, qRstd: qn.rstd, kRstd: kn.rstd, q, k, v }
}

/** h = x + Wo·attention(q, k, v). */
function attentionForward(b: Recording, c: ModelConfig, w: LayerWeights, x: Tensor, batch: Batch): { h: Tensor; kept: LayerKept['attention'] } {
  const kept = projectForward(b, c, w, x, batch.positions)
  const o = b.scratch('o', kept.q.shape) // [T, A]
  const lse = b.scratch('attentionLse', [rows(x), c.num_attention_heads])
  const { q, k, v } = kept
  b.attentionForward({ o, lse, q, k, v, H: c.num_attention_heads, G: c.num_key_value_heads, sequence: batch.sequence })
  return { h: linear(b, 'h', o, w.output, x), kept: { ...kept, o, lse } }
}

/** dX of the attention block from dH; `g` are the layer's gradients. */
function attentionBackward(b: Recording, c: ModelConfig, w: LayerWeights, g: LayerWeights, kept: LayerKept['attention'], dH: Tensor, batch: Batch): Tensor {
  const { x, rstd, q0, k0, qRstd, kRstd, q, k, v, o, lse } = kept
  const { positions, sequence } = batch
  const heads = { H: c.num_attention_heads, G: c.num_key_value_heads }

  const dO = linearInput(b, 'dO', dH, w.output)
  b.linearBackwardWeight({ dWeight: g.output, dY: dH, x: o })

  const dQ = b.scratch('dQ', q.shape)
  const dK = b.scratch('dK', k.shape)
  const dV = b.scratch('dV', v.shape)
  b.attentionBackward({ dQ, dK, dV, dO, q, k, v, o, lse, ...heads, sequence })

  const dQn = b.scratch('dQn', q.shape)
  const dKn = b.scratch('dKn', k.shape)
  b.ropeBackward({ dX: dQn, dY: dQ, positions, H: heads.H, theta: c.rope_theta })
  b.ropeBackward({ dX: dKn, dY: dK, positions, H: heads.G, theta: c.rope_theta })

  const dQ0 = b.scratch('dQ0', q.shape)
  const dK0 = b.scratch('dK0', k.shape)
  b.rmsNormBackward({ dX: dQ0, dWeight: g.queryNorm, dY: dQn, x: q0, weight: w.queryNorm, rstd: qRstd })
  b.rmsNormBackward({ dX: dK0, dWeight: g.keyNorm, dY: dKn, x: k0, weight: w.keyNorm, rstd: kRstd })

  const { y: a } = normForward(b, c, 'a', x, w.attentionNorm)
  b.linearBackwardWeight({ dWeight: g.query, dY: dQ0, x: a })
  b.linearBackwardWeight({ dWeight: g.key, dY: dK0, x: a })
  b.linearBackwardWeight({ dWeight: g.value, dY: dV, x: a })
  const dA = linearInput(b, 'dA', dV, w.value, linearInput(b, 'dA', dK0, w.key, linearInput(b, 'dA', dQ0, w.query)))

  const dX = b.scratch('dX', x.shape)
  b.rmsNormBackward({ dX, dWeight: g.attentionNorm, dY: dA, x, weight: w.attentionNorm, rstd, add: dH })
  return dX
}

/** u = RMS(h), p = softmax(router u) over all experts, the K experts of every token and their gates. */
function routeForward(b: Recording, c: ModelConfig, w: SharedLayerWeights, h: Tensor, layer: number, taps: RoutingTaps) {
  const { num_experts: E, num_experts_per_tok: K } = c
  const T = rows(h)
  const { y: u, rstd } = normForward(b, c, 'u', h, w.moeNorm)
  const logits = taps.logits?.[layer] ?? b.scratch('routerLogits', [T, E])
  b.linearForward({ y: logits, x: u, weight: w.router })
  const probs = b.scratch('probs', [T, E])
  const lse = b.scratch('routerLse', [T])
  b.routerSoftmaxForward({ probs, lse, logits })
  const experts = taps.experts?.[layer] ?? b.scratch('experts', [T, K], 'i32')
  if (!taps.forced) b.routerTopKForward({ experts, probs })
  const gate = taps.gate?.[layer] ?? b.scratch('gate', [T, K])
  b.routerGateForward({ gate, probs, experts, normalise: Number(c.norm_topk_prob) })
  return { u, rstd, probs, lse, experts, gate }
}

/**
 * y = h + Σ_{i ∈ TopK} p_i · Wdown_i(silu(Wgate_i u) · Wup_i u) (Eq 1).
 * Every token reaches its K experts: slots are sorted by expert, no capacity, no padding.
 */
function moeForward(b: Recording, c: ModelConfig, w: LayerWeights, h: Tensor, layer: number, taps: RoutingTaps): { y: Tensor; kept: MoeKept } {
  const { num_experts: E, num_experts_per_tok: K, intermediate_size: F, hidden_size: D } = c
  const T = rows(h)
  const { u, rstd, probs, lse, experts, gate } = routeForward(b, c, w, h, layer, taps)

  const counts = taps.counts?.[layer] ?? b.scratch('counts', [E], 'i32')
  const offsets = b.scratch('offsets', [E + 1], 'i32')
  const slotToken = b.scratch('slotToken', [T * K], 'i32')
  const slotIndex = b.scratch('slotIndex', [T * K], 'i32')
  const tokenSlot = b.scratch('tokenSlot', [T, K], 'i32')
  b.moeDispatchForward({ counts, offsets, slotToken, slotIndex, tokenSlot, experts })

  const hidden = b.scratch('hidden', [T * K, 2 * F])
  b.groupedLinearForward({ y: hidden, x: u, weight: w.gateUp, offsets, rows: slotToken })
  const activated = b.scratch('activated', [T * K, F])
  b.swigluForward({ a: activated, h: hidden, gate, slotIndex })
  const slots = b.scratch('slots', [T * K, D])
  b.groupedLinearForward({ y: slots, x: activated, weight: w.down, offsets })
  const y = b.scratch('x', [T, D])
  b.moeCombineForward({ y, slots, tokenSlot, add: h })
  return { y, kept: { h, rstd, probs, lse, experts, gate, counts, offsets, slotToken, slotIndex, tokenSlot, hidden } }
}

/** dH of the MoE block from dY. The router's gradient is the dot product of dA and the unscaled activation, so no expert output is kept (arXiv 2512.14080). */
function moeBackward(b: Recording, c: ModelConfig, w: LayerWeights, g: LayerWeights, kept: MoeKept, dY: Tensor, scales: AuxiliaryScales): Tensor {
  const { num_experts_per_tok: K, intermediate_size: F, hidden_size: D } = c
  const { h, rstd, probs, lse, experts, gate, counts, offsets, slotToken, slotIndex, tokenSlot, hidden } = kept
  const T = rows(h)

  const activated = b.scratch('activated', [T * K, F])
  b.swigluForward({ a: activated, h: hidden, gate, slotIndex })
  b.groupedLinearBackwardWeight({ dWeight: g.down, dY, x: activated, offsets, rowsY: slotToken })
  const dActivated = b.scratch('dActivated', [T * K, F])
  b.groupedLinearBackwardInput({ dX: dActivated, dY, weight: w.down, offsets, rows: slotToken })

  const dHidden = b.scratch('dHidden', [T * K, 2 * F])
  const dGate = b.scratch('dGate', [T, K])
  b.swigluBackward({ dH: dHidden, dGate, dA: dActivated, h: hidden, gate, slotIndex })

  const { y: u } = normForward(b, c, 'u', h, w.moeNorm)
  b.groupedLinearBackwardWeight({ dWeight: g.gateUp, dY: dHidden, x: u, offsets, rowsX: slotToken })
  const dSlots = b.scratch('dSlots', [T * K, D])
  b.groupedLinearBackwardInput({ dX: dSlots, dY: dHidden, weight: w.gateUp, offsets })

  const dLogits = b.scratch('dLogits', probs.shape)
  const normalise = Number(c.norm_topk_prob)
  b.routerBackward({ dLogits, dGate, probs, lse, experts, gate, counts, normalise, loadBalanceScale: scales.loadBalance, routerZScale: scales.routerZ })
  b.linearBackwardWeight({ dWeight: g.router, dY: dLogits, x: u })

  const dU = b.scratch('dU', [T, D])
  b.moeCombineForward({ y: dU, slots: dSlots, tokenSlot, add: linearInput(b, 'dU', dLogits, w.router) })
  const dH = b.scratch('dH', [T, D])
  b.rmsNormBackward({ dX: dH, dWeight: g.moeNorm, dY: dU, x: h, weight: w.moeNorm, rstd, add: dY })
  return dH
}

/** Records embedding, all layers and the final norm. `final` [T, D] is what the head reads. */
export function modelForward(b: Recording, c: ModelConfig, w: Weights, batch: Batch, taps: RoutingTaps = {}): Kept {
  let x = b.scratch('x', [rows(batch.ids), c.hidden_size])
  b.embedForward({ x, ids: batch.ids, weight: w.embedding })
  const layers = w.layers.map((layer, i) => {
    const attention = attentionForward(b, c, layer, x, batch)
    const moe = moeForward(b, c, layer, attention.h, i, taps)
    x = moe.y
    return { attention: attention.kept, moe: moe.kept }
  })
  const { y: final, rstd } = normForward(b, c, 'final', x, w.finalNorm)
  return { layers, x, rstd, final }
}

/** Records the gradients of everything below the head, given dFinal [T, D]; `g` accumulates. */
export function modelBackward(b: Recording, c: ModelConfig, w: Weights, g: Weights, batch: Batch, kept: Kept, dFinal: Tensor, scales: AuxiliaryScales): void {
  let dX = b.scratch('dX', kept.x.shape)
  b.rmsNormBackward({ dX, dWeight: g.finalNorm, dY: dFinal, x: kept.x, weight: w.finalNorm, rstd: kept.rstd })
  for (let i = w.layers.length - 1; i >= 0; i--) {
    const layer = kept.layers[i]!
    dX = moeBackward(b, c, w.layers[i]!, g.layers[i]!, layer.moe, dX, scales)
    dX = attentionBackward(b, c, w.layers[i]!, g.layers[i]!, layer.attention, dX, batch)
  }
  b.embedBackward({ dWeight: g.embedding, ids: batch.ids, dX })
}

/** Writes load-balancing and router z losses of every layer into losses [L, 2], unscaled. */
export function auxiliaryLosses(b: Recording, c: ModelConfig, kept: Kept, losses: Tensor): void {
  kept.layers.forEach(({ moe: { probs, lse, counts } }, layer) => {
    b.routerLossForward({ losses, probs, lse, counts, K: c.num_experts_per_tok, layer })
  })
}

/** Key-value cache of one sequence: per layer keys and values [capacity, B]. */
export type Cache = { keys: Tensor[]; values: Tensor[] }

/** moeForward on packed experts, for inference: one op for the router, one for the experts. */
function moePacked(b: Recording, c: ModelConfig, w: PackedLayerWeights, h: Tensor, layer: number, taps: RoutingTaps): Tensor {
  const { y: u } = normForward(b, c, 'u', h, w.moeNorm)
  const choices = [rows(h), c.num_experts_per_tok] as const
  const experts = taps.experts?.[layer] ?? b.scratch('experts', choices, 'i32')
  const gate = taps.gate?.[layer] ?? b.scratch('gate', choices)
  b.routerForward({ experts, gate, x: u, weight: w.router, normalise: Number(c.norm_topk_prob) })
  const y = b.scratch('x', h.shape)
  b.moePackedForward({ y, x: u, experts, gate, gateWeight: w.gate, upWeight: w.up, downWeight: w.down, add: h })
  return y
}

/**
 * T new tokens of a generation. Of one sequence: `positions` are also their cache rows. Of several: token t goes to row rows[t] of a
 * cache in which sequence i owns `capacity` rows from i·capacity on.
 */
export type DecodeBatch = { ids: Tensor; positions: Tensor; sequences?: { rows: Tensor; capacity: number } }

/**
 * Records a step of generation: new tokens extend the cache, attend to it, and give final [T, D].
 * A negative position (or row) marks padding; its row of `final` is meaningless.
 */
export function modelDecode(b: Recording, c: ModelConfig, w: Weights | PackedWeights, batch: DecodeBatch, cache: Cache, taps: RoutingTaps = {}): Tensor {
  const { ids, positions, sequences } = batch
  const heads = { H: c.num_attention_heads, G: c.num_key_value_heads }
  let x = b.scratch('x', [rows(ids), c.hidden_size])
  if (isPacked(w.embedding)) b.embedPackedForward({ x, ids, weight: w.embedding })
  else b.embedForward({ x, ids, weight: w.embedding })
  w.layers.forEach((layer, i) => {
    const { q, k, v } = projectForward(b, c, layer, x, positions)
    const [cacheK, cacheV] = [cache.keys[i]!, cache.values[i]!]
    b.kvAppendForward({ cacheK, cacheV, k, v, positions: sequences?.rows ?? positions })
    const o = b.scratch('o', q.shape)
    if (sequences) b.attentionSequencesForward({ o, q, cacheK, cacheV, ...sequences, ...heads })
    else b.attentionCachedForward({ o, q, cacheK, cacheV, positions, ...heads })
    const h = linear(b, 'h', o, layer.output, x)
    x = 'gateUp' in layer ? moeForward(b, c, layer, h, i, taps).y : moePacked(b, c, layer, h, i, taps)
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
