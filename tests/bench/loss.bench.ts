/**
 * G16: the loss after 200 steps in mixed precision against PyTorch's float32 (transformers' OlmoeForCausalLM) and against our own, from
 * equal weights on equal data: the weights go to the peer as a Hugging Face folder, the steps as a file of tokens, and the auxiliary
 * losses are ours on both sides (torch_olmoe.py says how transformers' differ). Training magnifies any rounding, so a last row says how
 * far float32 is from itself on another instruction set.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createCpuBackend, type CpuOptions } from '#core/backend/cpu.ts'
import { modelConfigSchema } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { createTrainer } from '#core/train/trainer.ts'
import { huggingFaceConfig } from '#core/train/model-source.ts'
import { drawWeights, writeWeights } from '#core/train/weights.ts'
import { loadNative } from '#native/index.ts'
import { geometricMean, spreadOf, type Bench } from './measure.ts'
import { openTorch } from './torch.ts'

const [steps, averaged, sequence, sequences] = [200, 50, 128, 8]
const seeds = [0, 1, 2, 3]
const config = modelConfigSchema.parse({ vocab_size: 512, hidden_size: 128, intermediate_size: 128, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 4, num_experts: 16, num_experts_per_tok: 2, initializer_range: 0.06 })

const optimizer = { betas: [0.9, 0.95] as [number, number], eps: 1e-8, weightDecay: 0.1, clip: 1 }
const [learningRate, warmup, loadBalanceWeight, routerZWeight] = [1e-3, 20, 0.01, 0.001]

/** Text that can be learnt: the next token is a function of the last two, but for one in ten. A step's tokens and the one after them. */
function drawSteps(seed: number): Int32Array[] {
  const random = createRandom(seed, 'text')
  return Array.from({ length: steps }, () => {
    const text = new Int32Array(sequence * sequences + 1)
    for (let t = 0; t < text.length; t++) {
      const last = (text[t - 1] ?? 1) * 31 + (text[t - 2] ?? 1) * 17
      text[t] = random.nextBelow(10) === 0 ? random.nextBelow(config.vocab_size) : (last % 64) * 7
    }
    return text
  })
}

/** Mean cross-entropy of the last steps; `folder` receives the model as it begins. */
async function lossOf(options: CpuOptions, seed: number, folder?: string): Promise<number> {
  const backend = createCpuBackend(options)
  const trainer = await createTrainer(backend, { model: config, sequenceLength: sequence, sequencesPerMicroBatch: sequences, microBatchesPerStep: 1, loadBalanceWeight, routerZWeight, optimizer })
  await drawWeights(backend, config, trainer.weights, seed)
  if (folder !== undefined) {
    writeFileSync(join(folder, 'config.json'), JSON.stringify(huggingFaceConfig(config, 'float32')))
    await writeWeights(backend, config, trainer.weights, join(folder, 'model.safetensors'))
  }
  const lossWeights = new Float32Array(sequence * sequences).fill(1 / (sequence * sequences))
  let last = 0
  for (const [i, text] of drawSteps(seed).entries()) {
    const losses = await (await trainer.accumulate([{ ids: text.slice(0, -1), targets: text.slice(1), lossWeights }])).read()
    if (i >= steps - averaged) last += losses.crossEntropy / averaged
    await (await trainer.update(learningRate * Math.min(1, (i + 1) / warmup), i + 1)).read()
  }
  await backend.close()
  return last
}

type Losses = { float32: number[]; torch: number[] | null; torchName: string }

/** Float32 of every seed, ours and, where it is installed, torch's from the same weights and steps. */
async function exactLosses(): Promise<Losses> {
  const torch = await openTorch(cpus().length)
  const isThere = torch !== undefined && torch.versions.transformers !== ''
  const found: Losses = { float32: [], torch: isThere ? [] : null, torchName: isThere ? `torch ${torch.versions.torch} float32` : 'torch float32: absent' }
  for (const seed of seeds) {
    const folder = mkdtempSync(join(tmpdir(), 'moe-loss-'))
    found.float32.push(await lossOf({ precision: 'float32' }, seed, folder))
    const text = join(folder, 'steps.i32')
    writeFileSync(text, Buffer.concat(drawSteps(seed).map((step) => Buffer.from(step.buffer))))
    found.torch?.push(await torch!.ask({
      op: 'loss', folder, text, tokens_per_step: sequence * sequences, sequence, averaged, learning_rate: learningRate, warmup,
      betas: optimizer.betas, eps: optimizer.eps, weight_decay: optimizer.weightDecay, clip: optimizer.clip, balance_weight: loadBalanceWeight, z_weight: routerZWeight,
    }))
    rmSync(folder, { recursive: true })
  }
  torch?.close()
  return found
}

export const bench: Bench = {
  title: 'loss',
  async run({ show }) {
    const { float32, torch, torchName } = await exactLosses()
    const compare = (name: string, losses: readonly number[], peer: string, against: readonly number[] | null, goal?: string): void => {
      const ratios = against?.map((loss, i) => losses[i]! / loss)
      const value = ratios ? geometricMean(ratios) : geometricMean(losses)
      show({
        group: 'G16', name: `loss of steps ${steps - averaged + 1}–${steps}, ${name}`, value, unit: ratios ? 'x' : 'nats', peer: against ? `${peer} (${against.map((loss) => loss.toFixed(3)).join(', ')})` : peer,
        ratio: ratios ? value : null, spread: spreadOf(ratios ?? losses), ...(goal && { goal }),
      })
    }
    const ours = async (options: CpuOptions): Promise<number[]> => {
      const losses: number[] = []
      for (const seed of seeds) losses.push(await lossOf(options, seed))
      return losses
    }
    const mixed = await ours({ precision: 'mixed' })
    compare('mixed', mixed, torchName, torch, '0.995 – 1.005')
    compare('float32', float32, torchName, torch)
    compare('mixed', mixed, 'own float32', float32, '0.995 – 1.005')
    compare('float32, other kernels', await ours({ precision: 'float32', isa: loadNative().instructionSets().at(-1) }), 'own float32', float32)
  },
}
