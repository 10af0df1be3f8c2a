/**
 * The attention block (reference §1.3), forward and backward side by side: pre-norm, QK-norm over the full width before the head
 * split, RoPE, causal attention, residual. Letters as in olmoe.ts: A query width, B key-value width.
 */
import type { Recording, Tensor } from '#core/backend/backend.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import type { AttentionWeights } from './parameters.ts'
import { linear, linearInput, normBackward, normForward, rows } from './primitives.ts'

/** Tokens to run on: ids [T] and their positions [T], in sequences of `sequence` tokens. */
export type Batch = { ids: Tensor; positions: Tensor; sequence: number }

type Projected = { x: Tensor; rstd: Tensor; q0: Tensor; k0: Tensor; qRstd: Tensor | null; kRstd: Tensor | null; q: Tensor; k: Tensor; v: Tensor }
export type AttentionKept = Projected & { o: Tensor; lse: Tensor }

/** a = norm(x); q, k, v = Wq a, Wk a, Wv a; q, k normed over their full width, then rotated head by head. */
export function projectForward(b: Recording, c: ModelConfig, w: AttentionWeights, x: Tensor, positions: Tensor): Projected {
  const { y: a, rstd } = normForward(b, c, 'a', x, w.attentionNorm)
  const q0 = linear(b, 'q0', a, w.query) // [T, A]
  const k0 = linear(b, 'k0', a, w.key) // [T, B]
  const v = linear(b, 'v', a, w.value) // [T, B]
  const qn = c.use_qk_norm ? normForward(b, c, 'qn', q0, w.queryNorm) : { y: q0, rstd: null }
  const kn = c.use_qk_norm ? normForward(b, c, 'kn', k0, w.keyNorm) : { y: k0, rstd: null }
  const q = b.scratch('q', q0.shape)
  const k = b.scratch('k', k0.shape)
  b.ropeForward({ y: q, x: qn.y, positions, H: c.num_attention_heads, theta: c.rope_theta })
  b.ropeForward({ y: k, x: kn.y, positions, H: c.num_key_value_heads, theta: c.rope_theta })
  return { x, rstd, q0, k0, qRstd: qn.rstd, kRstd: kn.rstd, q, k, v }
}

/** h = x + Wo·attention(q, k, v). */
export function attentionForward(b: Recording, c: ModelConfig, w: AttentionWeights, x: Tensor, batch: Batch): { h: Tensor; kept: AttentionKept } {
  const kept = projectForward(b, c, w, x, batch.positions)
  const o = b.scratch('o', kept.q.shape) // [T, A]
  const lse = b.scratch('attentionLse', [rows(x), c.num_attention_heads])
  const { q, k, v } = kept
  b.attentionForward({ o, lse, q, k, v, H: c.num_attention_heads, G: c.num_key_value_heads, sequence: batch.sequence })
  return { h: linear(b, 'h', o, w.output, x), kept: { ...kept, o, lse } }
}

/** dX of the attention block from dH; `g` are the layer's gradients. */
export function attentionBackward(b: Recording, c: ModelConfig, w: AttentionWeights, g: AttentionWeights, kept: AttentionKept, dH: Tensor, batch: Batch): Tensor {
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

  const dQ0 = qRstd ? normBackward(b, 'dQ0', { dY: dQn, x: q0, rstd: qRstd, weight: w.queryNorm, dWeight: g.queryNorm }) : dQn
  const dK0 = kRstd ? normBackward(b, 'dK0', { dY: dKn, x: k0, rstd: kRstd, weight: w.keyNorm, dWeight: g.keyNorm }) : dKn

  const { y: a } = normForward(b, c, 'a', x, w.attentionNorm)
  b.linearBackwardWeight({ dWeight: g.query, dY: dQ0, x: a })
  b.linearBackwardWeight({ dWeight: g.key, dY: dK0, x: a })
  b.linearBackwardWeight({ dWeight: g.value, dY: dV, x: a })
  const dA = linearInput(b, 'dA', dV, w.value, linearInput(b, 'dA', dK0, w.key, linearInput(b, 'dA', dQ0, w.query)))
  return normBackward(b, 'dX', { dY: dA, x, rstd, weight: w.attentionNorm, dWeight: g.attentionNorm, add: dH })
}
