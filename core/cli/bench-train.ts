/** `moe bench train`: speed and memory of the training step on random weights and data. */
import { z } from 'zod'
import { programBytes } from '#core/runner/memory-plan.ts'
import { spreadOf, type Spread } from '#core/shared/devices.ts'
import { modelConfigSchema, trainingFlopsPerToken } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { createTrainer } from '#core/train/trainer.ts'
import { drawWeights } from '#core/train/weights.ts'
import { numberOption, readJson, requiredOption, type Command } from './command.ts'
import { deviceHelp, deviceOptions, openBackend } from './model.ts'

type Result = { tokensPerSecond: Spread; stepMs: Spread; modelFlopsPerToken: number; peakFlopsPerSecond: number; peakFraction: number; peakRssBytes: number; plannedBytes: number; device: string }

/** A model config.json, or a run file whose `model` is one. */
const modelOrRunSchema = z.union([modelConfigSchema, z.object({ model: modelConfigSchema }).transform((run) => run.model)])

export const benchTrain: Command = {
  name: 'bench train',
  summary: 'speed and memory of a training step on random data',
  usage: '--model <config.json> --batch B --seq T --steps N',
  options: { model: { type: 'string' }, batch: { type: 'string' }, seq: { type: 'string' }, steps: { type: 'string' }, ...deviceOptions },
  help: { model: 'model config.json', batch: 'sequences per step (default 8)', seq: 'tokens per sequence (default 512)', steps: 'timed steps (default 5)', ...deviceHelp },
  async run({ values }, context): Promise<Result> {
    const config = readJson(requiredOption(values, 'model'), modelOrRunSchema)
    const [batch, sequence] = [numberOption(values, 'batch', 8, { min: 1, integer: true }), numberOption(values, 'seq', 512, { min: 2, integer: true })]
    const steps = numberOption(values, 'steps', 5, { min: 1, integer: true })
    const backend = await openBackend(values)
    const optimizer = { betas: [0.9, 0.95] as [number, number], eps: 1e-8, weightDecay: 0.1, clip: 1 }
    const trainer = await createTrainer(backend, { model: config, sequenceLength: sequence, sequencesPerMicroBatch: batch, microBatchesPerStep: 1, loadBalanceWeight: 0.01, routerZWeight: 0.001, optimizer })
    await drawWeights(backend, config, trainer.weights, 0)
    const peakFlopsPerSecond = await backend.measurePeak()
    const random = createRandom(0, 'bench')
    const tokens = batch * sequence
    const draw = (): Int32Array => Int32Array.from({ length: tokens }, () => random.nextBelow(config.vocab_size))
    const lossWeights = new Float32Array(tokens).fill(1 / tokens)
    const times: number[] = []
    for (let step = 0; step <= steps; step++) {
      const data = { ids: draw(), targets: draw(), lossWeights }
      const startedAt = performance.now()
      await trainer.accumulate([data])
      await (await trainer.update(1e-4, step + 1)).read()
      // Step 0 warms up: pages are touched for the first time.
      if (step > 0) times.push(performance.now() - startedAt)
      context.progress(`step ${step} of ${steps}`)
    }
    await backend.close()
    const tokensPerSecond = spreadOf(times.map((ms) => tokens / (ms / 1000)))
    const modelFlopsPerToken = trainingFlopsPerToken(config, sequence)
    return {
      tokensPerSecond, stepMs: spreadOf(times), modelFlopsPerToken, peakFlopsPerSecond,
      peakFraction: (tokensPerSecond.median * modelFlopsPerToken) / peakFlopsPerSecond,
      peakRssBytes: process.resourceUsage().maxRSS * 1024, plannedBytes: trainer.plannedBytes + programBytes(backend.name === 'webgpu' ? 'webgpu' : 'cpu'), device: backend.description,
    }
  },
  words: (r: Result) =>
    [
      `${r.tokensPerSecond.median.toFixed(0)} tokens/s (${r.tokensPerSecond.min.toFixed(0)}–${r.tokensPerSecond.max.toFixed(0)}), step ${r.stepMs.median.toFixed(0)} ms`,
      `${(r.modelFlopsPerToken / 1e6).toFixed(1)} MFLOP per token, ${(100 * r.peakFraction).toFixed(1)} % of the measured peak of ${(r.peakFlopsPerSecond / 1e9).toFixed(0)} GFLOP/s`,
      `memory: planned ${(r.plannedBytes / 2 ** 20).toFixed(0)} MiB, peak resident ${(r.peakRssBytes / 2 ** 20).toFixed(0)} MiB`,
      r.device,
    ].join('\n'),
}
