/**
 * What the blocks of the model are made of: norms, products with a weight, the SwiGLU network that every token passes.
 * A norm without a weight is LayerNorm, one with a weight RMSNorm; a packed weight is one for inference.
 */
import type { Recording, Tensor } from '#core/backend/backend.ts'
import { isPacked } from '#core/backend/packed.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import type { FeedForwardWeights } from './parameters.ts'

export const rows = (tensor: Tensor): number => tensor.shape[0]!

export type Normed = { y: Tensor; rstd: Tensor }

export function normForward(b: Recording, c: ModelConfig, name: string, x: Tensor, weight: Tensor | null): Normed {
  const y = b.scratch(name, x.shape)
  const rstd = b.scratch(`${name}.rstd`, [rows(x)])
  if (weight) b.rmsNormForward({ y, rstd, x, weight, eps: c.rms_norm_eps })
  else b.layerNormForward({ y, rstd, x, eps: c.rms_norm_eps })
  return { y, rstd }
}

/** dX from dY; `dWeight` accumulates where the norm has a weight. */
export function normBackward(b: Recording, name: string, { dY, x, rstd, weight, dWeight, add }: { dY: Tensor; x: Tensor; rstd: Tensor; weight: Tensor | null; dWeight: Tensor | null; add?: Tensor }): Tensor {
  const dX = b.scratch(name, x.shape)
  if (weight) b.rmsNormBackward({ dX, dWeight: dWeight!, dY, x, weight, rstd, add })
  else b.layerNormBackward({ dX, dY, x, rstd, add })
  return dX
}

export function linear(b: Recording, name: string, x: Tensor, weight: Tensor, add?: Tensor): Tensor {
  const y = b.scratch(name, [rows(x), weight.shape[0]!])
  if (isPacked(weight)) b.linearPackedForward({ y, x, weight, add })
  else b.linearForward({ y, x, weight, add })
  return y
}

export function linearInput(b: Recording, name: string, dY: Tensor, weight: Tensor, add?: Tensor): Tensor {
  const dX = b.scratch(name, [rows(dY), weight.shape[1]!])
  b.linearBackwardInput({ dX, dY, weight, add })
  return dX
}

/** y = add + Wdown(silu(Wgate u) · Wup u) for every token: a dense layer, or the shared experts side by side. */
export function denseForward(b: Recording, w: FeedForwardWeights, u: Tensor, add: Tensor): { y: Tensor; hidden: Tensor } {
  const hidden = linear(b, 'denseHidden', u, w.gateUp) // [T, 2F]
  const activated = b.scratch('denseActivated', [rows(u), hidden.shape[1]! / 2])
  b.denseSwigluForward({ a: activated, h: hidden })
  return { y: linear(b, 'x', activated, w.down, add), hidden }
}

/** dU + add of denseForward from dY. */
export function denseBackward(b: Recording, w: FeedForwardWeights, g: FeedForwardWeights, hidden: Tensor, u: Tensor, dY: Tensor, add?: Tensor): Tensor {
  const activated = b.scratch('denseActivated', [rows(u), hidden.shape[1]! / 2])
  b.denseSwigluForward({ a: activated, h: hidden })
  b.linearBackwardWeight({ dWeight: g.down, dY, x: activated })
  const dActivated = linearInput(b, 'dDenseActivated', dY, w.down)
  const dHidden = b.scratch('dDenseHidden', hidden.shape)
  b.denseSwigluBackward({ dH: dHidden, dA: dActivated, h: hidden })
  b.linearBackwardWeight({ dWeight: g.gateUp, dY: dHidden, x: u })
  return linearInput(b, 'dU', dHidden, w.gateUp, add)
}
