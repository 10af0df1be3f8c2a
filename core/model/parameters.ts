/**
 * The weights of an OLMoE-family model: their tensors, their order, their names in a Hugging Face checkpoint, their initial values.
 * Experts of a layer are one tensor (gate rows, then up rows of each expert), as the grouped products want them. What a variant does not
 * have is null; layers that share their experts hold the very same tensors, under the name of the first of them.
 *
 * Letters: D hidden_size, F intermediate_size, E num_experts, V vocab_size, A = query width = D, B = key-value width.
 */
import { persistent, type Tensor } from '#core/backend/backend.ts'
import { alwaysOnWidth, moeLayers, type ModelConfig } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'

export type AttentionWeights = {
  attentionNorm: Tensor | null // [D]; null: LayerNorm, which has none
  query: Tensor // [A, D]
  key: Tensor // [B, D]
  value: Tensor // [B, D]
  queryNorm: Tensor | null // [A]
  keyNorm: Tensor | null // [B]
  output: Tensor // [D, A]
}
export type MoeWeights = {
  router: Tensor // [E, D]
  gateUp: Tensor // [E, 2F, D]
  down: Tensor // [E, D, F]
}
/** A network that every token passes; its width is alwaysOnWidth. */
export type FeedForwardWeights = {
  gateUp: Tensor // [2F, D]
  down: Tensor // [D, F]
}

export type Layer<Moe> = AttentionWeights & {
  moeNorm: Tensor | null // [D]
  moe: Moe | null
  dense: FeedForwardWeights | null
}
/** A model whose experts are held as `Moe`: for training, or packed for inference. */
export type Model<Moe> = {
  embedding: Tensor // [V, D]
  layers: Layer<Moe>[]
  finalNorm: Tensor | null // [D]
  head: Tensor // [V, D]
}
export type LayerWeights = Layer<MoeWeights>
export type Weights = Model<MoeWeights>

/** A block of rows of one of our tensors under its Hugging Face name. */
export type NamedPart = { name: string; shape: number[]; elementOffset: number }

/** Width of one head. */
export function headWidth(config: ModelConfig): number {
  return config.hidden_size / config.num_attention_heads
}

type Make = (name: string, ...shape: number[]) => Tensor

/** Declares a model's tensors: `plain` makes those that stay float32, `matrix` the others, `moe` the experts of layer `at`. */
export function declareModel<Moe>(config: ModelConfig, plain: Make, matrix: Make, embedding: Make, moe: (at: string) => Moe): Model<Moe> {
  const { hidden_size: D, vocab_size: V } = config
  const B = headWidth(config) * config.num_key_value_heads
  const routed = moeLayers(config)
  const norm = (name: string, width: number): Tensor | null => (config.norm_kind === 'rms' ? plain(name, width) : null)
  const qkNorm = (name: string, width: number): Tensor | null => (config.use_qk_norm ? norm(name, width) : null)
  let shared: Moe | null = null
  return {
    embedding: embedding('embedding', V, D),
    layers: Array.from({ length: config.num_hidden_layers }, (_, i) => {
      const at = `layers.${i}`
      const W = alwaysOnWidth(config, i)
      return {
        attentionNorm: norm(`${at}.attentionNorm`, D),
        query: matrix(`${at}.query`, D, D),
        key: matrix(`${at}.key`, B, D),
        value: matrix(`${at}.value`, B, D),
        queryNorm: qkNorm(`${at}.queryNorm`, D),
        keyNorm: qkNorm(`${at}.keyNorm`, B),
        output: matrix(`${at}.output`, D, D),
        moeNorm: norm(`${at}.moeNorm`, D),
        moe: !routed.includes(i) ? null : config.share_moe_across_layers ? (shared ??= moe(at)) : moe(at),
        dense: W === 0 ? null : { gateUp: matrix(`${at}.denseGateUp`, 2 * W, D), down: matrix(`${at}.denseDown`, D, W) },
      }
    }),
    finalNorm: norm('finalNorm', D),
    head: matrix('head', V, D),
  }
}

/** Declares a full set of persistent tensors; `prefix` tells weights, gradients and moments apart. */
export function declareWeights(config: ModelConfig, prefix = ''): Weights {
  const { hidden_size: D, intermediate_size: F, num_experts: E } = config
  const declare: Make = (name, ...shape) => persistent(prefix + name, shape)
  return declareModel(config, declare, declare, declare, (at) => ({
    router: declare(`${at}.router`, E, D),
    gateUp: declare(`${at}.gateUp`, E, 2 * F, D),
    down: declare(`${at}.down`, E, D, F),
  }))
}

/** All tensors, each once, in one fixed order: the order of memory, of files, of optimizer state and of gradient norms. */
export function listWeights<Moe extends Record<string, Tensor>>(weights: Model<Moe>): Tensor[] {
  const ofLayer = (layer: Layer<Moe>): (Tensor | null)[] =>
    Object.values(layer).flatMap((part: Tensor | Moe | FeedForwardWeights | null) => (part === null || isTensor(part) ? [part] : Object.values(part)))
  const all = [weights.embedding, ...weights.layers.flatMap(ofLayer), weights.finalNorm, weights.head]
  return [...new Set(all)].filter((tensor) => tensor !== null)
}

function isTensor(part: Tensor | object): part is Tensor {
  return 'dtype' in part
}

/** Hugging Face names of a layer's single tensors. */
const layerNames = {
  attentionNorm: 'input_layernorm',
  query: 'self_attn.q_proj',
  key: 'self_attn.k_proj',
  value: 'self_attn.v_proj',
  queryNorm: 'self_attn.q_norm',
  keyNorm: 'self_attn.k_norm',
  output: 'self_attn.o_proj',
  moeNorm: 'post_attention_layernorm',
} as const satisfies Partial<Record<keyof Layer<unknown>, string>>

/** Where a tensor's rows come from: `expert` names a stack of E matrices, one each. */
type Source<Moe> = { tensor: Tensor; whole: string } | { tensor: Tensor; moe: keyof Moe; layer: string } | { tensor: Tensor; dense: keyof FeedForwardWeights; at: string }

/** Every tensor with the place of its numbers in a Hugging Face checkpoint, in listWeights order. */
export function weightSources<Moe extends Record<string, Tensor>>(weights: Model<Moe>): Source<Moe>[] {
  const layers = weights.layers.flatMap((layer, i): Source<Moe>[] => {
    const at = `model.layers.${i}`
    const singles = (Object.keys(layerNames) as (keyof typeof layerNames)[]).flatMap((key) => (layer[key] ? [{ tensor: layer[key], whole: `${at}.${layerNames[key]}.weight` }] : []))
    const isFirst = weights.layers.findIndex(({ moe }) => moe === layer.moe) === i
    const moe = layer.moe && isFirst ? Object.entries(layer.moe).map(([key, tensor]) => ({ tensor, moe: key, layer: `${at}.mlp` })) : []
    const dense = Object.entries(layer.dense ?? {}).map(([key, tensor]) => ({ tensor, dense: key as keyof FeedForwardWeights, at: `${at}.mlp${layer.moe ? '.shared_experts' : ''}` }))
    return [...singles, ...moe, ...dense]
  })
  return [
    { tensor: weights.embedding, whole: 'model.embed_tokens.weight' },
    ...layers,
    ...(weights.finalNorm ? [{ tensor: weights.finalNorm, whole: 'model.norm.weight' }] : []),
    { tensor: weights.head, whole: 'lm_head.weight' },
  ]
}

/**
 * The Hugging Face parts of every tensor, in listWeights order (reference §1.2). Together they cover each tensor exactly once.
 * Dense layers are named as Llama's, shared experts (one matrix for all of them) as DeepSeek's.
 */
export function huggingFaceParts(config: ModelConfig, weights: Weights): { tensor: Tensor; parts: NamedPart[] }[] {
  const { hidden_size: D, intermediate_size: F, num_experts: E } = config
  /** gate rows over up rows. */
  const gateUp = (at: string, width: number, from: number): NamedPart[] => [
    { name: `${at}.gate_proj.weight`, shape: [width, D], elementOffset: from },
    { name: `${at}.up_proj.weight`, shape: [width, D], elementOffset: from + width * D },
  ]
  const down = (at: string, width: number, elementOffset: number): NamedPart[] => [{ name: `${at}.down_proj.weight`, shape: [D, width], elementOffset }]
  const experts = Array.from({ length: E }, (_, e) => e)
  return weightSources(weights).map((source) => {
    const { tensor } = source
    if ('whole' in source) return { tensor, parts: [{ name: source.whole, shape: [...tensor.shape], elementOffset: 0 }] }
    if ('dense' in source) return { tensor, parts: source.dense === 'gateUp' ? gateUp(source.at, tensor.shape[0]! / 2, 0) : down(source.at, tensor.shape[1]!, 0) }
    if (source.moe === 'router') return { tensor, parts: [{ name: `${source.layer}.gate.weight`, shape: [E, D], elementOffset: 0 }] }
    const at = (e: number): string => `${source.layer}.experts.${e}`
    return { tensor, parts: experts.flatMap((e) => (source.moe === 'gateUp' ? gateUp(at(e), F, 2 * e * F * D) : down(at(e), F, e * D * F))) }
  })
}

/**
 * Initial values of one tensor, piece after piece: norms 1, everything else normal(0, initializer_range), cut at ±3 standard deviations
 * unless the configuration says otherwise (reference §1.1). Depends on the seed and the tensor's name alone, so adding a tensor
 * changes no other.
 */
export function initialValues(config: ModelConfig, tensor: Tensor, seed: number): (piece: Float32Array) => void {
  if (tensor.name.endsWith('Norm')) return (piece) => piece.fill(1)
  const random = createRandom(seed, `init/${tensor.name}`)
  return (piece) => random.fillNormal(piece, config.initializer_range, config.initializer_kind === 'truncated_normal' ? 3 : Infinity)
}
