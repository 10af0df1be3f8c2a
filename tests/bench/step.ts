/** A training step that can be timed: models of the tables, random tokens, one micro-batch a step. */
import type { CpuBackend } from '#core/backend/cpu.ts'
import { modelConfigSchema, trainingFlopsPerToken, type ModelConfig } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { createTrainer, type MicroBatch } from '#core/train/trainer.ts'
import { drawWeights } from '#core/train/weights.ts'

/** Width, layers, experts, experts per token, expert width, vocabulary, sequences of 512. */
export const shapes = {
  small: [256, 8, 16, 4, 256, 8192, 8],
  'small, dense twin': [256, 8, 1, 1, 1024, 8192, 8],
  medium: [512, 8, 64, 8, 256, 16384, 4],
  'medium, dense twin': [512, 8, 1, 1, 2048, 16384, 4],
  'two layers, 16 experts': [256, 2, 16, 4, 256, 8192, 8],
  'two layers, 256 experts': [256, 2, 256, 4, 256, 8192, 8],
} as const
export type ShapeName = keyof typeof shapes
export const sequence = 512

export function configOf(name: ShapeName): ModelConfig {
  const [D, L, E, K, F, V] = shapes[name]
  return modelConfigSchema.parse({ vocab_size: V, hidden_size: D, intermediate_size: F, num_hidden_layers: L, num_attention_heads: D / 64, num_key_value_heads: D / 64, num_experts: E, num_experts_per_tok: K })
}

export type Stepper = {
  readonly tokens: number
  readonly flops: number
  readonly plannedBytes: number
  /** Takes one step and gives its seconds. */
  step(): Promise<number>
  release(): void
}

export async function openStepper(backend: CpuBackend, name: ShapeName): Promise<Stepper> {
  const config = configOf(name)
  const tokens = shapes[name][6] * sequence
  const optimizer = { betas: [0.9, 0.95] as [number, number], eps: 1e-8, weightDecay: 0.1, clip: 1 }
  const trainer = await createTrainer(backend, { model: config, sequenceLength: sequence, sequencesPerMicroBatch: shapes[name][6], microBatchesPerStep: 1, loadBalanceWeight: 0.01, routerZWeight: 0.001, optimizer })
  await drawWeights(backend, config, trainer.weights, 0)
  const random = createRandom(0, 'bench')
  const draw = (): Int32Array => Int32Array.from({ length: tokens }, () => random.nextBelow(config.vocab_size))
  const lossWeights = new Float32Array(tokens).fill(1 / tokens)
  let count = 0
  return {
    tokens,
    flops: tokens * trainingFlopsPerToken(config, sequence),
    plannedBytes: trainer.plannedBytes,
    async step() {
      const data: MicroBatch = { ids: draw(), targets: draw(), lossWeights }
      const startedAt = performance.now()
      await trainer.accumulate([data])
      await (await trainer.update(1e-4, ++count)).read()
      return (performance.now() - startedAt) / 1000
    },
    release: () => trainer.release(),
  }
}
