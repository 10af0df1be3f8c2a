/**
 * `moe train-step`: forward, backward and AdamW on a given batch, for parity checks. The batch file is safetensors with
 * input_ids [B,T] and loss_mask [B,T] (1 = the token counts as a target), as in tests/fixtures/oracle.
 */
import { microBatchesOf, nextTokenRows } from '#core/train/batch.ts'
import { createTrainer } from '#core/train/trainer.ts'
import { readConfigOf } from '#core/train/model-source.ts'
import { loadWeightsInto, readTokenBatch, writeWeights } from '#core/train/weights.ts'
import { numberOption, requiredOption, UsageError, type Command } from './command.ts'
import { deviceHelp, deviceOptions, modelFolder, openBackend } from './model.ts'

type Step = { crossEntropy: number; loadBalance: number; routerZ: number; total: number; gradNorm: number }
type Result = { steps: Step[] }

function betasOption(text: string | boolean | undefined): [number, number] {
  const parts = String(text ?? '0.9,0.95').split(',').map(Number)
  if (parts.length !== 2 || parts.some((beta) => !(beta >= 0 && beta < 1))) throw new UsageError('--betas: expected two numbers below 1, as 0.9,0.95')
  return [parts[0]!, parts[1]!]
}

export const trainStep: Command = {
  name: 'train-step',
  summary: 'forward, backward and AdamW on a given batch',
  usage: '--model M --batch F [--grads OUT] [--weights OUT]',
  options: {
    model: { type: 'string' }, batch: { type: 'string' }, lr: { type: 'string' }, betas: { type: 'string' }, eps: { type: 'string' }, 'weight-decay': { type: 'string' },
    clip: { type: 'string' }, alpha: { type: 'string' }, beta: { type: 'string' }, steps: { type: 'string' }, grads: { type: 'string' }, weights: { type: 'string' }, ...deviceOptions,
  },
  help: {
    model: 'checkpoint id, Hugging Face folder or GGUF file', batch: 'safetensors with input_ids and loss_mask', lr: 'learning rate (default 0.001)', betas: 'default 0.9,0.95', eps: 'default 1e-8',
    'weight-decay': 'default 0.1', clip: 'global gradient norm, 0 = off (default 1)', alpha: 'load-balancing weight (default 0.01)', beta: 'router z weight (default 0.001)',
    steps: 'default 1', grads: 'writes the gradient of the first step', weights: 'writes the weights after the last step', ...deviceHelp,
  },
  async run({ values }, context): Promise<Result> {
    const folder = modelFolder(values, context)
    const { ids, mask, sequence } = readTokenBatch(requiredOption(values, 'batch'))
    const optimizer = {
      betas: betasOption(values.betas),
      eps: numberOption(values, 'eps', 1e-8, { min: 0 }),
      weightDecay: numberOption(values, 'weight-decay', 0.1, { min: 0 }),
      clip: numberOption(values, 'clip', 1, { min: 0 }),
    }
    const steps = numberOption(values, 'steps', 1, { min: 1, integer: true })
    const learningRate = numberOption(values, 'lr', 1e-3, { min: 0 })
    const backend = await openBackend(values)
    const config = readConfigOf(folder)
    const trainer = await createTrainer(backend, {
      model: config, sequenceLength: sequence, sequencesPerMicroBatch: ids.length / sequence, microBatchesPerStep: 1, optimizer,
      loadBalanceWeight: numberOption(values, 'alpha', 0.01, { min: 0 }), routerZWeight: numberOption(values, 'beta', 0.001, { min: 0 }),
    })
    await loadWeightsInto(backend, folder, config, trainer.weights)
    const batch = microBatchesOf(nextTokenRows(ids, sequence, mask), ids.length)
    const result: Result = { steps: [] }
    for (let step = 1; step <= steps; step++) {
      const { crossEntropy, loadBalance, routerZ, total } = await (await trainer.accumulate(batch)).read()
      if (step === 1 && typeof values.grads === 'string') await writeWeights(backend, config, trainer.gradients, values.grads)
      const gradNorm = await (await trainer.update(learningRate, step)).read()
      result.steps.push({ crossEntropy, loadBalance, routerZ, total, gradNorm })
      context.progress(`step ${step} of ${steps}`)
    }
    if (typeof values.weights === 'string') await writeWeights(backend, config, trainer.weights, values.weights)
    await backend.close()
    return result
  },
  words: ({ steps }: Result) =>
    steps.map((s, i) => `step ${i + 1}: cross-entropy ${s.crossEntropy.toFixed(6)}, load balance ${s.loadBalance.toFixed(6)}, router z ${s.routerZ.toFixed(6)}, total ${s.total.toFixed(6)}, gradient norm ${s.gradNorm.toFixed(6)}`).join('\n'),
}
