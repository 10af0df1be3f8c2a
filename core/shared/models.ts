/**
 * A model's configuration and the numbers that follow from it. The fields are those of Hugging Face's OLMoE config.json,
 * under the same names everywhere: in checkpoints, run files, the database and the wizard.
 * Refuses what the engine does not compute (clipping, biases, tied embeddings, rope scaling) with the field's name.
 */
import { z } from 'zod'

const count = z.int().positive()

const fields = z.object({
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count.describe('width of one expert'),
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: count,
  num_experts: count,
  num_experts_per_tok: count,
  max_position_embeddings: count.default(4096),
  rope_theta: z.number().positive().default(10000),
  rms_norm_eps: z.number().positive().default(1e-5),
  norm_topk_prob: z.boolean().default(false),
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
  }),
)

export type ModelConfig = z.output<typeof modelConfigSchema>

/** Parameters of a model by part. `active`: those that one token's forward pass uses, both embeddings counted (the paper's convention). */
export type ParameterCounts = {
  embedding: number
  head: number
  attention: number
  router: number
  experts: number
  norms: number
  total: number
  active: number
}

/** Exact parameter counts (reference §1.1). */
export function countParameters(c: ModelConfig): ParameterCounts {
  const { hidden_size: D, num_hidden_layers: L } = c
  const keyValueWidth = (D / c.num_attention_heads) * c.num_key_value_heads
  const perExpert = 3 * D * c.intermediate_size
  const embedding = c.vocab_size * D
  const attention = L * (2 * D * D + 2 * D * keyValueWidth)
  const router = L * c.num_experts * D
  const experts = L * c.num_experts * perExpert
  const norms = L * (3 * D + keyValueWidth) + D
  const total = 2 * embedding + attention + router + experts + norms
  return {
    embedding,
    head: embedding,
    attention,
    router,
    experts,
    norms,
    total,
    active: total - L * (c.num_experts - c.num_experts_per_tok) * perExpert,
  }
}

/**
 * FLOPs of one token's training step (forward and backward) at context length `sequence`:
 * 6 per active matrix parameter (the input embedding is a look-up) and 6·T·D per layer for causal attention's two products.
 */
export function trainingFlopsPerToken(c: ModelConfig, sequence: number): number {
  const p = countParameters(c)
  return 6 * (p.active - p.embedding - p.norms) + 6 * c.num_hidden_layers * sequence * c.hidden_size
}
