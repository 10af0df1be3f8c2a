/**
 * The weights of an OLMoE-family model: their tensors, their order, their names in a Hugging Face checkpoint, their initial values.
 * Experts of a layer are one tensor (gate rows, then up rows of each expert), as the grouped products want them.
 *
 * Letters: D hidden_size, F intermediate_size, E num_experts, V vocab_size, A = query width = D, B = key-value width.
 */
import { persistent, type Tensor } from '#core/backend/backend.ts'
import type { ModelConfig } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'

export type LayerWeights = {
  attentionNorm: Tensor // [D]
  query: Tensor // [A, D]
  key: Tensor // [B, D]
  value: Tensor // [B, D]
  queryNorm: Tensor // [A]
  keyNorm: Tensor // [B]
  output: Tensor // [D, A]
  moeNorm: Tensor // [D]
  router: Tensor // [E, D]
  gateUp: Tensor // [E, 2F, D]
  down: Tensor // [E, D, F]
}

export type Weights = {
  embedding: Tensor // [V, D]
  layers: LayerWeights[]
  finalNorm: Tensor // [D]
  head: Tensor // [V, D]
}

/** A block of rows of one of our tensors under its Hugging Face name. */
export type NamedPart = { name: string; shape: number[]; elementOffset: number }

/** Width of one head. */
export function headWidth(config: ModelConfig): number {
  return config.hidden_size / config.num_attention_heads
}

/** Declares a full set of persistent tensors; `prefix` tells weights, gradients and moments apart. */
export function declareWeights(config: ModelConfig, prefix = ''): Weights {
  const { hidden_size: D, intermediate_size: F, num_experts: E, vocab_size: V } = config
  const B = headWidth(config) * config.num_key_value_heads
  const declare = (name: string, ...shape: number[]): Tensor => persistent(prefix + name, shape)
  return {
    embedding: declare('embedding', V, D),
    layers: Array.from({ length: config.num_hidden_layers }, (_, i) => ({
      attentionNorm: declare(`layers.${i}.attentionNorm`, D),
      query: declare(`layers.${i}.query`, D, D),
      key: declare(`layers.${i}.key`, B, D),
      value: declare(`layers.${i}.value`, B, D),
      queryNorm: declare(`layers.${i}.queryNorm`, D),
      keyNorm: declare(`layers.${i}.keyNorm`, B),
      output: declare(`layers.${i}.output`, D, D),
      moeNorm: declare(`layers.${i}.moeNorm`, D),
      router: declare(`layers.${i}.router`, E, D),
      gateUp: declare(`layers.${i}.gateUp`, E, 2 * F, D),
      down: declare(`layers.${i}.down`, E, D, F),
    })),
    finalNorm: declare('finalNorm', D),
    head: declare('head', V, D),
  }
}

/** All tensors in one fixed order: the order of memory, of optimizer state and of gradient norms. */
export function listWeights(weights: Weights): Tensor[] {
  return [weights.embedding, ...weights.layers.flatMap((layer) => Object.values(layer)), weights.finalNorm, weights.head]
}

/** Hugging Face names of a layer's single tensors. */
export const layerNames: Record<Exclude<keyof LayerWeights, 'gateUp' | 'down'>, string> = {
  attentionNorm: 'input_layernorm',
  query: 'self_attn.q_proj',
  key: 'self_attn.k_proj',
  value: 'self_attn.v_proj',
  queryNorm: 'self_attn.q_norm',
  keyNorm: 'self_attn.k_norm',
  output: 'self_attn.o_proj',
  moeNorm: 'post_attention_layernorm',
  router: 'mlp.gate',
}

/** The Hugging Face parts of every tensor, in listWeights order (reference §1.2). Together they cover each tensor exactly once. */
export function huggingFaceParts(config: ModelConfig, weights: Weights): { tensor: Tensor; parts: NamedPart[] }[] {
  const { hidden_size: D, intermediate_size: F, num_experts: E } = config
  const whole = (tensor: Tensor, name: string) => ({ tensor, parts: [{ name: `${name}.weight`, shape: [...tensor.shape], elementOffset: 0 }] })
  const experts = Array.from({ length: E }, (_, e) => e)
  return [
    whole(weights.embedding, 'model.embed_tokens'),
    ...weights.layers.flatMap((layer, i) => {
      const at = (name: string) => `model.layers.${i}.${name}`
      const expert = (e: number, name: string, shape: number[], elementOffset: number): NamedPart => ({
        name: at(`mlp.experts.${e}.${name}.weight`),
        shape,
        elementOffset,
      })
      return [
        ...(Object.keys(layerNames) as (keyof typeof layerNames)[]).map((key) => whole(layer[key], at(layerNames[key]))),
        {
          tensor: layer.gateUp,
          parts: experts.flatMap((e) => [expert(e, 'gate_proj', [F, D], 2 * e * F * D), expert(e, 'up_proj', [F, D], (2 * e + 1) * F * D)]),
        },
        { tensor: layer.down, parts: experts.map((e) => expert(e, 'down_proj', [D, F], e * D * F)) },
      ]
    }),
    whole(weights.finalNorm, 'model.norm'),
    whole(weights.head, 'lm_head'),
  ]
}

/**
 * Initial values of one tensor, piece after piece: norms 1, everything else normal(0, initializer_range) cut at ±3 standard
 * deviations (reference §1.1). Depends on the seed and the tensor's name alone, so adding a tensor changes no other.
 */
export function initialValues(config: ModelConfig, tensor: Tensor, seed: number): (piece: Float32Array) => void {
  if (tensor.name.endsWith('Norm')) return (piece) => piece.fill(1)
  const random = createRandom(seed, `init/${tensor.name}`)
  return (piece) => random.fillNormal(piece, config.initializer_range, 3)
}
