/**
 * The mixture of experts (reference §1.3–1.7), forward and backward side by side: the router, who takes which token, the experts'
 * products over slots. Slots are sorted by expert; nothing is padded. Letters as in olmoe.ts: S slots, K gates of a token.
 *
 * Token choice: every token reaches its K most probable experts (dropless, S = T·K). Expert choice: every expert takes its most
 * probable tokens of each sequence (arXiv 2202.09368, S = T·K on average), so that load is balanced by construction, a token may
 * reach any number of experts, and whether it does depends on later tokens: the model is not causal, and its training loss flatters it.
 */
import type { Recording, Tensor } from '#core/backend/backend.ts'
import { expertCapacity, type ModelConfig } from '#core/shared/models.ts'
import type { PackedMoeWeights } from './packed-weights.ts'
import type { MoeWeights } from './parameters.ts'
import { linearInput, rows } from './primitives.ts'

/** Persistent tensors, one per layer with experts, that a pass writes its routing to (instead of scratch), or reads its experts from. */
export type RoutingTaps = {
  counts?: Tensor[] // i32 [E]
  experts?: Tensor[] // i32 [T, K]
  gate?: Tensor[] // [T, K]
  logits?: Tensor[] // [T, E]
  /** Added to the router's logits: what an intervention wants chosen or left out. */
  bias?: Tensor[] // [T, E]
  /** Experts are inputs: the router's top-k is not taken (forced routing). */
  forced?: boolean
}

/** What the auxiliary losses add to the gradient: weights already divided by layers and micro-batches. */
export type AuxiliaryScales = { loadBalance: number; routerZ: number }

type Routed = { probs: Tensor; lse: Tensor }
/** Who takes which token. Under expert choice every probability is a possible gate (K = E), and no token has a list of experts. */
type Assignment = { experts: Tensor | null; gate: Tensor; counts: Tensor; offsets: Tensor; slotToken: Tensor; slotIndex: Tensor; tokenSlot: Tensor }
export type MoeKept = Routed & Assignment & { hidden: Tensor }
/** Assignments of each expert, over the layers whose load is balanced together. */
export type Load = { counts: Tensor; layers: number }

/** p = softmax(router u) over all experts. */
function routeForward(b: Recording, c: ModelConfig, w: Pick<MoeWeights, 'router'>, u: Tensor, layer: number, taps: RoutingTaps): Routed {
  const [T, E] = [rows(u), c.num_experts]
  const logits = taps.logits?.[layer] ?? b.scratch('routerLogits', [T, E])
  b.linearForward({ y: logits, x: u, weight: w.router, add: taps.bias?.[layer] })
  const probs = b.scratch('probs', [T, E])
  const lse = b.scratch('routerLse', [T])
  b.routerSoftmaxForward({ probs, lse, logits })
  return { probs, lse }
}

/** The K most probable experts of every token, and their gates. */
function topKForward(b: Recording, c: ModelConfig, probs: Tensor, layer: number, taps: RoutingTaps): { experts: Tensor; gate: Tensor } {
  const [T, K] = [rows(probs), c.num_experts_per_tok]
  const experts = taps.experts?.[layer] ?? b.scratch('experts', [T, K], 'i32')
  if (!taps.forced) b.routerTopKForward({ experts, probs })
  const gate = taps.gate?.[layer] ?? b.scratch('gate', [T, K])
  b.routerGateForward({ gate, probs, experts, normalise: Number(c.norm_topk_prob) })
  return { experts, gate }
}

function tokenChoiceForward(b: Recording, c: ModelConfig, probs: Tensor, layer: number, taps: RoutingTaps): Assignment {
  const { experts, gate } = topKForward(b, c, probs, layer, taps)
  const slots = scratchSlots(b, c, rows(probs) * c.num_experts_per_tok, experts.shape, taps.counts?.[layer])
  b.moeDispatchForward({ ...slots, experts })
  return { experts, gate, ...slots }
}

function expertChoiceForward(b: Recording, c: ModelConfig, probs: Tensor, sequence: number, layer: number, taps: RoutingTaps): Assignment {
  const capacity = expertCapacity(c, sequence)
  const slots = scratchSlots(b, c, (rows(probs) / sequence) * c.num_experts * capacity, probs.shape, taps.counts?.[layer])
  b.expertChoiceForward({ ...slots, probs, sequence, capacity })
  return { experts: null, gate: probs, ...slots }
}

function scratchSlots(b: Recording, { num_experts: E }: ModelConfig, S: number, gates: readonly number[], counts: Tensor | undefined): Omit<Assignment, 'experts' | 'gate'> {
  return {
    counts: counts ?? b.scratch('counts', [E], 'i32'),
    offsets: b.scratch('offsets', [E + 1], 'i32'),
    slotToken: b.scratch('slotToken', [S], 'i32'),
    slotIndex: b.scratch('slotIndex', [S], 'i32'),
    tokenSlot: b.scratch('tokenSlot', gates, 'i32'),
  }
}

/** y = add + Σ_{i takes the token} p_i · Wdown_i(silu(Wgate_i u) · Wup_i u) (Eq 1). */
export function moeForward(b: Recording, c: ModelConfig, w: MoeWeights, u: Tensor, add: Tensor, sequence: number, layer: number, taps: RoutingTaps): { y: Tensor; kept: MoeKept } {
  const { intermediate_size: F, hidden_size: D } = c
  const routed = routeForward(b, c, w, u, layer, taps)
  const assignment = c.routing === 'expert_choice' ? expertChoiceForward(b, c, routed.probs, sequence, layer, taps) : tokenChoiceForward(b, c, routed.probs, layer, taps)
  const { gate, offsets, slotToken, slotIndex, tokenSlot } = assignment
  const S = rows(slotToken)

  const hidden = b.scratch('hidden', [S, 2 * F])
  b.groupedLinearForward({ y: hidden, x: u, weight: w.gateUp, offsets, rows: slotToken })
  const activated = b.scratch('activated', [S, F])
  b.swigluForward({ a: activated, h: hidden, gate, slotIndex })
  const slots = b.scratch('slots', [S, D])
  b.groupedLinearForward({ y: slots, x: activated, weight: w.down, offsets })
  const y = b.scratch('x', [rows(u), D])
  b.moeCombineForward({ y, slots, tokenSlot, add })
  return { y, kept: { ...routed, ...assignment, hidden } }
}

/**
 * dU of the MoE from dY; `again` gives u, computed once more where it is needed. The router's gradient is the dot product of dA and the unscaled activation, so no expert output is kept
 * (arXiv 2512.14080).
 */
export function moeBackward(b: Recording, c: ModelConfig, w: MoeWeights, g: MoeWeights, kept: MoeKept, again: () => Tensor, dY: Tensor, load: Load, scales: AuxiliaryScales): Tensor {
  const { intermediate_size: F, hidden_size: D } = c
  const { probs, lse, experts, gate, offsets, slotToken, slotIndex, tokenSlot, hidden } = kept
  const S = rows(slotToken)

  const activated = b.scratch('activated', [S, F])
  b.swigluForward({ a: activated, h: hidden, gate, slotIndex })
  b.groupedLinearBackwardWeight({ dWeight: g.down, dY, x: activated, offsets, rowsY: slotToken })
  const dActivated = b.scratch('dActivated', [S, F])
  b.groupedLinearBackwardInput({ dX: dActivated, dY, weight: w.down, offsets, rows: slotToken })

  const dHidden = b.scratch('dHidden', [S, 2 * F])
  const dGate = b.scratch('dGate', gate.shape)
  b.swigluBackward({ dH: dHidden, dGate, dA: dActivated, h: hidden, gate, slotIndex })

  const u = again()
  b.groupedLinearBackwardWeight({ dWeight: g.gateUp, dY: dHidden, x: u, offsets, rowsX: slotToken })
  const dSlots = b.scratch('dSlots', [S, D])
  b.groupedLinearBackwardInput({ dX: dSlots, dY: dHidden, weight: w.gateUp, offsets })

  const dLogits = b.scratch('dLogits', probs.shape)
  const routerZScale = scales.routerZ
  // The op divides the counts by T·K; those of several layers are as many times more.
  const balance = { normalise: Number(c.norm_topk_prob), loadBalanceScale: scales.loadBalance / load.layers, routerZScale }
  if (experts) b.routerBackward({ dLogits, dGate, probs, lse, experts, gate, counts: load.counts, ...balance })
  else b.expertChoiceBackward({ dLogits, dGate, probs, lse, tokenSlot, routerZScale })
  b.linearBackwardWeight({ dWeight: g.router, dY: dLogits, x: u })

  const dU = b.scratch('dU', u.shape)
  b.moeCombineForward({ y: dU, slots: dSlots, tokenSlot, add: linearInput(b, 'dU', dLogits, w.router) })
  return dU
}

/** The loads that the balancing losses of the layers are about: a layer's own, or where layers share one MoE that of all of them. */
export function loadsForward(b: Recording, c: ModelConfig, layers: readonly MoeKept[]): Load[] {
  if (!c.share_moe_across_layers) return layers.map(({ counts }) => ({ counts, layers: 1 }))
  let sum: Tensor | undefined
  for (const { counts } of layers) {
    const total = b.scratch('totalCounts', [c.num_experts], 'i32')
    b.addCountsForward({ total, counts, add: sum })
    sum = total
  }
  return layers.map(() => ({ counts: sum!, layers: layers.length }))
}

/** Writes load-balancing and router z losses of every layer with experts into losses [layers, 2], unscaled. */
export function auxiliaryLosses(b: Recording, layers: readonly MoeKept[], loads: readonly Load[], losses: Tensor): void {
  layers.forEach(({ probs, lse, slotToken }, layer) => {
    const { counts, layers: together } = loads[layer]!
    b.routerLossForward({ losses, probs, lse, counts, assignments: rows(slotToken) * together, layer })
  })
}

/** The router of moePacked: one op, unless the logits are wanted or added to. */
function routePacked(b: Recording, c: ModelConfig, w: PackedMoeWeights, u: Tensor, layer: number, taps: RoutingTaps): { experts: Tensor; gate: Tensor } {
  if (taps.logits || taps.bias) return topKForward(b, c, routeForward(b, c, w, u, layer, taps).probs, layer, taps)
  const choices = [rows(u), c.num_experts_per_tok] as const
  const experts = taps.experts?.[layer] ?? b.scratch('experts', choices, 'i32')
  const gate = taps.gate?.[layer] ?? b.scratch('gate', choices)
  b.routerForward({ experts, gate, x: u, weight: w.router, normalise: Number(c.norm_topk_prob) })
  return { experts, gate }
}

/** moeForward on packed experts, for inference: one op for the router, one for the experts. */
export function moePacked(b: Recording, c: ModelConfig, w: PackedMoeWeights, u: Tensor, add: Tensor, layer: number, taps: RoutingTaps): Tensor {
  const { experts, gate } = routePacked(b, c, w, u, layer, taps)
  const y = b.scratch('x', u.shape)
  b.moePackedForward({ y, x: u, experts, gate, gateWeight: w.gate, upWeight: w.up, downWeight: w.down, add })
  return y
}
