/**
 * The weights of a model for inference: matrices packed in bf16, 8 or 4 bits, norms and router in float32. Gate and up projections are
 * tensors of their own here, so that each ends with whole strips of rows.
 *
 * In 8 or 4 bits every row is whole blocks of 32 numbers; a matrix whose rows are not stays in bf16, as GGUF files have it too. The
 * embedding of a 4-bit model is kept in 8 bits: a token reads one row of it, so its size costs no time.
 */
import { persistent, type DType, type PackedDType, type Tensor } from '#core/backend/backend.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { blockWidth } from '#core/shared/quantization.ts'
import { headWidth, layerNames, type LayerWeights } from './parameters.ts'

export type PackedLayerWeights = Omit<LayerWeights, 'gateUp' | 'down'> & {
  gate: Tensor // [E, F, D]
  up: Tensor // [E, F, D]
  down: Tensor // [E, D, F]
}

export type PackedWeights = {
  embedding: Tensor // [V, D]
  layers: PackedLayerWeights[]
  finalNorm: Tensor // [D]
  head: Tensor // [V, D]
}

/** The form of a matrix in a model of `type`. */
function formOf(type: PackedDType, width: number): PackedDType {
  return width % blockWidth === 0 ? type : 'bf16'
}

/** Declares a full set of tensors for a model in `type`. */
export function declarePackedWeights(config: ModelConfig, type: PackedDType): PackedWeights {
  const { hidden_size: D, intermediate_size: F, num_experts: E, vocab_size: V } = config
  const B = headWidth(config) * config.num_key_value_heads
  const plain = (name: string, ...shape: number[]): Tensor => persistent(name, shape, 'f32' satisfies DType)
  const matrix = (name: string, ...shape: number[]): Tensor => persistent(name, shape, formOf(type, shape.at(-1)!))
  return {
    embedding: persistent('embedding', [V, D], formOf(type === 'q4' ? 'q8' : type, D)),
    layers: Array.from({ length: config.num_hidden_layers }, (_, i) => ({
      attentionNorm: plain(`layers.${i}.attentionNorm`, D),
      query: matrix(`layers.${i}.query`, D, D),
      key: matrix(`layers.${i}.key`, B, D),
      value: matrix(`layers.${i}.value`, B, D),
      queryNorm: plain(`layers.${i}.queryNorm`, D),
      keyNorm: plain(`layers.${i}.keyNorm`, B),
      output: matrix(`layers.${i}.output`, D, D),
      moeNorm: plain(`layers.${i}.moeNorm`, D),
      router: plain(`layers.${i}.router`, E, D),
      gate: matrix(`layers.${i}.gate`, E, F, D),
      up: matrix(`layers.${i}.up`, E, F, D),
      down: matrix(`layers.${i}.down`, E, D, F),
    })),
    finalNorm: plain('finalNorm', D),
    head: matrix('head', V, D),
  }
}

/** All tensors in one fixed order: that of a file. */
export function listPackedWeights(weights: PackedWeights): Tensor[] {
  return [weights.embedding, ...weights.layers.flatMap((layer) => Object.values(layer)), weights.finalNorm, weights.head]
}

/** A tensor, the Hugging Face names of its matrices in order, and the shape of each. */
export type PackedSource = { tensor: Tensor; names: string[]; shape: number[] }

/** The Hugging Face matrices of every tensor, in listPackedWeights order: one, or one per expert. */
export function packedSources(config: ModelConfig, weights: PackedWeights): PackedSource[] {
  const whole = (tensor: Tensor, name: string) => ({ tensor, names: [`${name}.weight`], shape: [...tensor.shape] })
  const experts = (tensor: Tensor, layer: number, name: string) => ({
    tensor,
    names: Array.from({ length: config.num_experts }, (_, e) => `model.layers.${layer}.mlp.experts.${e}.${name}.weight`),
    shape: tensor.shape.slice(1),
  })
  return [
    whole(weights.embedding, 'model.embed_tokens'),
    ...weights.layers.flatMap((layer, i) => [
      ...(Object.keys(layerNames) as (keyof typeof layerNames)[]).map((key) => whole(layer[key], `model.layers.${i}.${layerNames[key]}`)),
      experts(layer.gate, i, 'gate_proj'),
      experts(layer.up, i, 'up_proj'),
      experts(layer.down, i, 'down_proj'),
    ]),
    whole(weights.finalNorm, 'model.norm'),
    whole(weights.head, 'lm_head'),
  ]
}
