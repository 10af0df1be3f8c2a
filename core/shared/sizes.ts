/**
 * One size from which a whole recipe follows, from a model that trains in a minute on a laptop to OLMoE-1B-7B itself. The dial is the
 * number of layers; the rest keeps the proportions of the paper's model (reference §1.1): width grows with the square of the depth, an
 * expert is half as wide as the model, 8 of 64 experts a token (fewer where the model is small).
 */
import { countParameters, modelConfigSchema, type ModelConfig } from './models.ts'
import { runConfigSchema, type RunConfig } from './runs.ts'

/** Depths of the dial with the names they go by. */
export const sizes = [
  { id: 'nano', layers: 2 },
  { id: 'micro', layers: 3 },
  { id: 'mini', layers: 4 },
  { id: 'small', layers: 6 },
  { id: 'medium', layers: 8 },
  { id: 'large', layers: 12 },
  { id: 'OLMoE-1B-7B', layers: 16 },
] as const

/** Tokens for each active parameter but the embeddings': enough for loss to be no longer limited by them (Hoffmann et al., 2022). */
const tokensPerParameter = 20
const olmoeTokens = 5_033e9

const powerOfTwo = (value: number): number => 2 ** Math.round(Math.log2(value))
const between = (low: number, value: number, high: number): number => Math.max(low, Math.min(high, value))
/** Two digits are as much as such rules know. */
const rounded = (value: number): number => Number(value.toPrecision(2))

/** The model of a depth. `vocabularySize` null: as large as suits it. */
export function modelOfDepth(layers: number, vocabularySize: number | null = null): ModelConfig {
  const width = 64 * Math.max(1, Math.round((layers * layers) / 8))
  const headWidth = width >= 1024 ? 128 : 32
  const [experts, perToken] = layers <= 2 ? [8, 2] : layers <= 4 ? [16, 4] : [64, 8]
  return modelConfigSchema.parse({
    vocab_size: vocabularySize ?? (layers >= 16 ? 50_304 : between(2048, powerOfTwo(1024 * layers), 32_768)),
    hidden_size: width,
    intermediate_size: width / 2,
    num_hidden_layers: layers,
    num_attention_heads: width / headWidth,
    num_experts: experts,
    num_experts_per_tok: perToken,
    max_position_embeddings: layers >= 16 ? 4096 : between(256, powerOfTwo(128 * layers), 2048),
    // A narrow model needs larger weights for its sums to have the size that 0.02 gives at 2048.
    initializer_range: rounded(between(0.02, 0.02 * Math.sqrt(2048 / width), 0.06)),
    eos_token_id: 0,
    pad_token_id: 1,
  })
}

/**
 * The recipe of a size. Learning rate, batch and length of training follow from the model; with 16 layers they are the paper's own
 * (reference §2). The budget is 20 tokens for each active parameter.
 */
export function recipeOfSize(layers: number, { vocabularySize = null, mix = 'sample' }: { vocabularySize?: number | null; mix?: string } = {}): RunConfig {
  const model = modelOfDepth(layers, vocabularySize)
  const isOlmoe = layers >= 16
  const counts = countParameters(model)
  const tokens = isOlmoe ? olmoeTokens : tokensPerParameter * (counts.active - 2 * counts.embedding)
  const tokensPerStep = isOlmoe ? 1024 * 4096 : between(2048, powerOfTwo(Math.sqrt(tokens) / 2), 1 << 19)
  const sequencesPerStep = Math.max(1, tokensPerStep / model.max_position_embeddings)
  const steps = Math.max(100, Math.round(tokens / tokensPerStep))
  const peakLearningRate = rounded(4e-4 * (2048 / model.hidden_size) ** (2 / 3))
  const every = Math.max(1, Math.round(steps / (isOlmoe ? 240 : 10)))
  return runConfigSchema.parse({
    name: sizes.find((size) => size.layers === layers)?.id ?? `${layers} layers`,
    model,
    mix,
    sequenceLength: model.max_position_embeddings,
    sequencesPerStep,
    // As much of a step at once as 4,096 tokens.
    sequencesPerMicroBatch: Math.min(sequencesPerStep, Math.max(1, 4096 / model.max_position_embeddings)),
    steps,
    optimizer: { peakLearningRate, minLearningRate: peakLearningRate / 10, warmupSteps: isOlmoe ? 2500 : Math.max(1, Math.round(steps / 50)) },
    evaluateEverySteps: every,
    checkpointEverySteps: every,
  })
}
