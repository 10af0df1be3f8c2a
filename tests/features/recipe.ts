/** A small recipe; the scripted runner computes nothing, so only its numbers matter. */
import { runConfigSchema, type RunConfig } from '#core/shared/runs.ts'

export function recipe(change: Partial<RunConfig> = {}): RunConfig {
  return runConfigSchema.parse({
    name: 'Test',
    model: { vocab_size: 256, hidden_size: 16, intermediate_size: 8, num_hidden_layers: 2, num_attention_heads: 2, num_experts: 4, num_experts_per_tok: 2, max_position_embeddings: 32 },
    sequenceLength: 16,
    sequencesPerStep: 4,
    steps: 20,
    checkpointEverySteps: 5,
    ...change,
  })
}
