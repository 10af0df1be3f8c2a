/**
 * G16: the loss after 200 steps in mixed precision against float32 of the same seeds and data. PyTorch is absent here; our float32 is held
 * against it by tests/model. Training magnifies any rounding, so a second row says how far float32 is from itself on another instruction set.
 */
import { createCpuBackend, type CpuOptions } from '#core/backend/cpu.ts'
import { modelConfigSchema } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { createTrainer } from '#core/train/trainer.ts'
import { drawWeights } from '#core/train/weights.ts'
import { loadNative } from '#native/index.ts'
import { geometricMean, spreadOf, type Bench } from './measure.ts'

const [steps, averaged, sequence, sequences] = [200, 50, 128, 8]
const seeds = [0, 1, 2, 3]
const config = modelConfigSchema.parse({ vocab_size: 512, hidden_size: 128, intermediate_size: 128, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 4, num_experts: 16, num_experts_per_tok: 2, initializer_range: 0.06 })

/** Text that can be learnt: the next token is a function of the last two, but for one in ten. */
function draw(random: ReturnType<typeof createRandom>): { ids: Int32Array; targets: Int32Array } {
  const text = new Int32Array(sequence * sequences + 1)
  for (let t = 0; t < text.length; t++) {
    const last = (text[t - 1] ?? 1) * 31 + (text[t - 2] ?? 1) * 17
    text[t] = random.nextBelow(10) === 0 ? random.nextBelow(config.vocab_size) : (last % 64) * 7
  }
  return { ids: text.slice(0, -1), targets: text.slice(1) }
}

/** Mean cross-entropy of the last steps. */
async function lossOf(options: CpuOptions, seed: number): Promise<number> {
  const backend = createCpuBackend(options)
  const optimizer = { betas: [0.9, 0.95] as [number, number], eps: 1e-8, weightDecay: 0.1, clip: 1 }
  const trainer = await createTrainer(backend, { model: config, sequenceLength: sequence, sequencesPerMicroBatch: sequences, microBatchesPerStep: 1, loadBalanceWeight: 0.01, routerZWeight: 0.001, optimizer })
  await drawWeights(backend, config, trainer.weights, seed)
  const random = createRandom(seed, 'text')
  const lossWeights = new Float32Array(sequence * sequences).fill(1 / (sequence * sequences))
  let last = 0
  for (let step = 1; step <= steps; step++) {
    const losses = await (await trainer.accumulate([{ ...draw(random), lossWeights }])).read()
    if (step > steps - averaged) last += losses.crossEntropy / averaged
    await (await trainer.update(1e-3 * Math.min(1, step / 20), step)).read()
  }
  await backend.close()
  return last
}

export const bench: Bench = {
  title: 'loss',
  async run({ show }) {
    const exact: number[] = []
    for (const seed of seeds) exact.push(await lossOf({ precision: 'float32' }, seed))
    const compare = async (name: string, options: CpuOptions, goal?: string): Promise<void> => {
      const ratios: number[] = []
      for (const [i, seed] of seeds.entries()) ratios.push((await lossOf(options, seed)) / exact[i]!)
      const value = geometricMean(ratios)
      show({ group: 'G16', name: `loss of steps ${steps - averaged + 1}–${steps}, ${name}`, value, unit: 'x', peer: `float32 (${exact.map((loss) => loss.toFixed(3)).join(', ')})`, ratio: value, spread: spreadOf(ratios), ...(goal && { goal }) })
    }
    await compare('mixed', { precision: 'mixed' }, '0.995 – 1.005')
    await compare('float32, other kernels', { precision: 'float32', isa: loadNative().instructionSets().at(-1) })
  },
}
