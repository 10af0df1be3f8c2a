/**
 * A model's configuration and the numbers that follow from it. The fields are those of Hugging Face's OLMoE config.json, under the
 * same names everywhere: in checkpoints, run files, the database and the wizard. What OLMoE does not have is named as other
 * families there name it (decoder_sparse_step, use_qk_norm), else by us. The defaults are OLMoE's own choices.
 * Refuses what the engine does not compute (clipping, biases, tied embeddings, rope scaling) with the field's name.
 */
import { z } from 'zod'

const count = z.int().positive()
export const routings = ['token_choice', 'expert_choice'] as const
export const normKinds = ['rms', 'layer'] as const
export const initializerKinds = ['truncated_normal', 'normal'] as const

const fields = z.object({
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count.describe('width of one expert'),
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: count,
  num_experts: z.int().min(0).describe('0 = a dense model'),
  num_experts_per_tok: z.int().min(0),
  num_shared_experts: z.int().min(0).default(0).describe('experts that every token reaches, with gate 1, beside the routed ones'),
  decoder_sparse_step: count.default(1).describe('every n-th layer has experts, the others are dense'),
  dense_intermediate_size: count.nullable().default(null).describe('width of a dense layer; null: that of the experts one token reaches'),
  share_moe_across_layers: z.boolean().default(false).describe('one router and one set of experts for all layers; load is balanced over all of them'),
  routing: z.enum(routings).default('token_choice').describe('token_choice: dropless top-k; expert_choice: every expert takes its most probable tokens of each sequence'),
  max_position_embeddings: count.default(4096),
  rope_theta: z.number().positive().default(10000),
  rms_norm_eps: z.number().positive().default(1e-5),
  norm_kind: z.enum(normKinds).default('rms').describe('rms: RMSNorm with weights; layer: LayerNorm without'),
  use_qk_norm: z.boolean().default(true),
  norm_topk_prob: z.boolean().default(false),
  initializer_kind: z.enum(initializerKinds).default('truncated_normal').describe('truncated_normal: cut at 3 standard deviations'),
  initializer_range: z.number().positive().default(0.02),
  router_aux_loss_coef: z.number().min(0).default(0.01),
  eos_token_id: z.int().min(0).nullable().default(0),
  pad_token_id: z.int().min(0).nullable().default(null),
  hidden_act: z.literal('silu').default('silu'),
  attention_bias: z.literal(false).default(false),
  clip_qkv: z.null().default(null),
  tie_word_embeddings: z.literal(false).default(false),
})

/** config.json as transformers writes it: rope_theta may sit in rope_parameters, key-value heads may be left out. */
function normalise(input: unknown): unknown {
  if (typeof input !== 'object' || input === null) return input
  const json = { ...input } as Record<string, unknown>
  const rope = json.rope_parameters as { rope_theta?: unknown; rope_type?: unknown } | null | undefined
  if (rope && json.rope_theta === undefined) json.rope_theta = rope.rope_theta
  json.num_key_value_heads ??= json.num_attention_heads
  return json
}

/** Zod schema of a model configuration; unknown fields are dropped, checks across fields name the field at fault. */
export const modelConfigSchema = z.preprocess(
  normalise,
  fields.superRefine((c, issues) => {
    const fail = (path: string, message: string) => issues.addIssue({ code: 'custom', path: [path], message })
    if (c.hidden_size % c.num_attention_heads !== 0) fail('num_attention_heads', `must divide hidden_size ${c.hidden_size}`)
    else if ((c.hidden_size / c.num_attention_heads) % 2 !== 0) fail('num_attention_heads', 'the head width must be even (RoPE rotates pairs)')
    if (c.num_attention_heads % c.num_key_value_heads !== 0) fail('num_key_value_heads', `must divide num_attention_heads ${c.num_attention_heads}`)
    if (c.num_experts_per_tok > c.num_experts) fail('num_experts_per_tok', `must be at most num_experts ${c.num_experts}`)
    if (c.num_experts > 0 && c.num_experts_per_tok === 0) fail('num_experts_per_tok', 'must be at least 1')
    if (c.num_experts > 0 && moeLayers(c).length === 0) fail('decoder_sparse_step', `must be at most num_hidden_layers ${c.num_hidden_layers}`)
    if (c.num_experts === 0 && c.num_shared_experts > 0) fail('num_shared_experts', 'must be 0 in a dense model: its width is dense_intermediate_size')
    if (c.num_experts === 0 && c.dense_intermediate_size === null) fail('dense_intermediate_size', 'must be given for a dense model')
    if (c.routing === 'expert_choice' && c.norm_topk_prob) fail('norm_topk_prob', 'must be false: with expert choice a token has no fixed number of gates')
  }),
)

export type ModelConfig = z.output<typeof modelConfigSchema>

/** Indices of the layers that have routed experts: every `decoder_sparse_step`-th, counted from 1 (as Qwen2-MoE does). */
export function moeLayers(c: Pick<ModelConfig, 'num_experts' | 'num_hidden_layers' | 'decoder_sparse_step'>): number[] {
  const all = Array.from({ length: c.num_hidden_layers }, (_, i) => i)
  return c.num_experts === 0 ? [] : all.filter((i) => (i + 1) % c.decoder_sparse_step === 0)
}

/** Width of the feed-forward network that every token of `layer` reaches: a dense layer's own, or the shared experts together. 0 = none. */
export function alwaysOnWidth(c: ModelConfig, layer: number): number {
  if (moeLayers(c).includes(layer)) return c.num_shared_experts * c.intermediate_size
  return c.dense_intermediate_size ?? (c.num_experts_per_tok + c.num_shared_experts) * c.intermediate_size
}

/** Tokens that one expert takes of a sequence under expert choice: together the experts take num_experts_per_tok of each token, on average. */
export function expertCapacity(c: ModelConfig, sequence: number): number {
  return Math.min(sequence, Math.max(1, Math.floor((c.num_experts_per_tok * sequence) / c.num_experts)))
}

/** The model as it generates and is scored: experts cannot choose among tokens that are yet to come, so tokens choose. */
export function causal(c: ModelConfig): ModelConfig {
  return { ...c, routing: 'token_choice' }
}

/** Whether a model is OLMoE as transformers knows it, and not one of this family's variants. */
export function isOlmoe(c: ModelConfig): boolean {
  return (
    moeLayers(c).length === c.num_hidden_layers && c.num_shared_experts === 0 && !c.share_moe_across_layers &&
    c.routing === 'token_choice' && c.norm_kind === 'rms' && c.use_qk_norm
  )
}

/**
 * Parameters of a model by part. `dense`: dense layers and shared experts. `active`: those that one token's forward pass uses, both
 * embeddings counted (the paper's convention); experts shared across layers count in each layer that uses them.
 */
export type ParameterCounts = {
  embedding: number
  head: number
  attention: number
  router: number
  experts: number
  dense: number
  norms: number
  total: number
  active: number
}

/** Exact parameter counts (reference §1.1). */
export function countParameters(c: ModelConfig): ParameterCounts {
  const { hidden_size: D, num_hidden_layers: L } = c
  const keyValueWidth = (D / c.num_attention_heads) * c.num_key_value_heads
  const perExpert = 3 * D * c.intermediate_size
  const sparse = moeLayers(c).length
  const stored = c.share_moe_across_layers ? Math.min(1, sparse) : sparse
  const embedding = c.vocab_size * D
  const attention = L * (2 * D * D + 2 * D * keyValueWidth)
  const router = stored * c.num_experts * D
  const experts = stored * c.num_experts * perExpert
  let dense = 0
  for (let layer = 0; layer < L; layer++) dense += 3 * D * alwaysOnWidth(c, layer)
  const norms = c.norm_kind === 'layer' ? 0 : L * (2 * D + (c.use_qk_norm ? D + keyValueWidth : 0)) + D
  const rest = 2 * embedding + attention + dense + norms
  return {
    embedding,
    head: embedding,
    attention,
    router,
    experts,
    dense,
    norms,
    total: rest + router + experts,
    active: rest + sparse * (c.num_experts * D + c.num_experts_per_tok * perExpert),
  }
}

/**
 * FLOPs of one token's training step (forward and backward) at context length `sequence`:
 * 6 per active matrix parameter (the input embedding is a look-up) and 6·T·D per layer for causal attention's two products.
 * Under expert choice a token reaches as many experts as the capacity gives it on average.
 */
export function trainingFlopsPerToken(c: ModelConfig, sequence: number): number {
  const p = countParameters(c)
  const perToken = c.routing === 'expert_choice' && c.num_experts > 0 ? (c.num_experts * expertCapacity(c, sequence)) / sequence : c.num_experts_per_tok
  const routed = moeLayers(c).length * 3 * c.hidden_size * c.intermediate_size * (perToken - c.num_experts_per_tok)
  return 6 * (p.active + routed - p.embedding - p.norms) + 6 * c.num_hidden_layers * sequence * c.hidden_size
}
