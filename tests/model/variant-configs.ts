/** One small configuration of every variant of the family. */
import { modelConfigSchema, type ModelConfig } from '#core/shared/models.ts'

const base = {
  vocab_size: 13, hidden_size: 8, intermediate_size: 6, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1,
  num_experts: 4, num_experts_per_tok: 2, max_position_embeddings: 16, initializer_range: 0.3,
}

const variants: Record<string, object> = {
  OLMoE: {},
  'normalised gate': { norm_topk_prob: true },
  dense: { num_experts: 0, num_experts_per_tok: 0, dense_intermediate_size: 10 },
  'one expert': { num_experts: 1, num_experts_per_tok: 1 },
  'shared experts': { num_shared_experts: 2, num_experts_per_tok: 1 },
  'experts in every second layer': { decoder_sparse_step: 2, dense_intermediate_size: 7 },
  'experts shared by all layers': { share_moe_across_layers: true },
  'expert choice': { routing: 'expert_choice' },
  'expert choice in every second layer, shared expert': { routing: 'expert_choice', decoder_sparse_step: 2, num_shared_experts: 1 },
  'layer norm without weights': { norm_kind: 'layer' },
  'no QK-norm': { use_qk_norm: false },
  'everything at once': { norm_kind: 'layer', use_qk_norm: false, share_moe_across_layers: true, num_shared_experts: 1, norm_topk_prob: true, initializer_kind: 'normal' },
}

export const variantConfigs: { name: string; config: ModelConfig }[] = Object.entries(variants).map(([name, changes]) => ({ name, config: modelConfigSchema.parse({ ...base, ...changes }) }))

/** The variant called `name`. */
export function variant(name: string): ModelConfig {
  return variantConfigs.find((one) => one.name === name)!.config
}
