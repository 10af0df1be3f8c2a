/**
 * Interventions on the router, and what they cost. An expert that is off has −∞ added to its logit: the softmax divides its share among the
 * others. A forced one gets all the weight. Another k is another configuration of the same weights. The ablation switches one expert off at
 * a time and reads the loss of every domain.
 */
import type { Backend } from '#core/backend/backend.ts'
import type { Ablation, Intervention } from '#core/shared/analyses.ts'
import { AppError } from '#core/shared/errors.ts'
import { moeLayers, type ModelConfig } from '#core/shared/models.ts'
import { shareError, type Segment } from './counters.ts'
import { createRoutedPass, routingShape, type RoutedPass } from './pass.ts'
import type { AnalysedModel, RoutingOptions } from './routing.ts'
import type { AnalysedText, TextBatch } from './text.ts'

/** Large enough that exp of it is 0, small enough that sums stay finite. */
const decisive = 1e9

/** The bias [E] of every layer with experts that an intervention adds to the router's logits. Throws AppError analyze.noSuchExpert, analyze.allOff. */
export function biasesOf(c: ModelConfig, { off, force }: Pick<Intervention, 'off' | 'force'>): Float32Array[] {
  const layers = moeLayers(c)
  const biases = layers.map(() => new Float32Array(c.num_experts))
  const set = (value: number) => ({ layer, expert }: Intervention['off'][number]): void => {
    const bias = biases[layers.indexOf(layer)]
    if (bias === undefined || expert >= c.num_experts) {
      throw new AppError('analyze.noSuchExpert', `There is no expert ${expert} in layer ${layer}`, { params: { layer, expert }, hint: `Layers with experts: ${layers.join(', ')}; experts 0 to ${c.num_experts - 1}.` })
    }
    bias[expert] = value
  }
  off.forEach(set(-decisive))
  force.forEach(set(decisive))
  const dead = biases.findIndex((bias) => bias.every((value) => value < 0))
  if (dead >= 0) throw new AppError('analyze.allOff', `All experts of layer ${layers[dead]!} are switched off`, { params: { layer: layers[dead]! }, hint: 'Leave at least one on.' })
  return biases
}

/** The configuration that an intervention's k makes of a model. Throws AppError analyze.topK. */
export function withTopK(c: ModelConfig, topK: number | null): ModelConfig {
  if (topK === null || topK === c.num_experts_per_tok) return c
  // The width of dense layers follows k unless it is given.
  const dense_intermediate_size = c.dense_intermediate_size ?? (c.num_experts_per_tok + c.num_shared_experts) * c.intermediate_size
  if (topK <= c.num_experts) return { ...c, num_experts_per_tok: topK, dense_intermediate_size }
  throw new AppError('analyze.topK', `k is ${topK}, the model has ${c.num_experts} experts`, { params: { found: topK, expected: c.num_experts }, hint: 'Choose a smaller k.' })
}

/** Loss sums of the sequences of one domain, in the order of the text. */
type Losses = { sums: number[]; targets: number[] }

function collect(losses: readonly Losses[], loss: Float32Array, targets: Int32Array, segments: readonly Segment[]): void {
  for (const { from, to, domain } of segments) {
    let [sum, count] = [0, 0]
    for (let t = from; t < to; t++) {
      if (targets[t]! < 0) continue
      sum += loss[t]!
      count++
    }
    losses[domain]!.sums.push(sum)
    losses[domain]!.targets.push(count)
  }
}

async function lossesOf(pass: RoutedPass, batches: readonly TextBatch[], domains: number): Promise<Losses[]> {
  const losses = Array.from({ length: domains }, (): Losses => ({ sums: [], targets: [] }))
  for (const { ids, targets, segments } of batches) {
    await pass.write(ids, targets)
    await pass.run()
    collect(losses, (await pass.read()).loss, targets, segments)
  }
  return losses
}

const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)

/** Mean increase of the loss per target, and its standard error over sequences (paired: the same tokens with and without). */
export function increaseOf(plain: Losses, changed: Losses): { increase: number; error: number } {
  const differences = changed.sums.map((sum, i) => sum - plain.sums[i]!)
  const [c, n] = [total(differences), total(plain.targets)]
  const squares = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0)
  const error = plain.sums.length < 2 ? 0 : shareError(c, squares(differences, differences), squares(differences, plain.targets), n, squares(plain.targets, plain.targets), plain.sums.length)
  return { increase: n > 0 ? c / n : 0, error }
}

/** The table of what every expert is worth. Null when it was stopped. `text` is held in memory: ids and targets. */
export async function ablateExperts(backend: Backend, model: AnalysedModel, text: AnalysedText, options: Pick<RoutingOptions, 'sequence' | 'sequences' | 'onProgress' | 'isStopped'>): Promise<Ablation | null> {
  const { layers: L, experts: E } = routingShape(model.config)
  const pass = await createRoutedPass(backend, model.config, model.weights, { sequence: options.sequence, sequences: options.sequences, head: true, bias: true })
  try {
    const batches = [...text.batches()]
    const plain = await lossesOf(pass, batches, text.domains.length)
    const domains = plain.map(({ sums, targets }, i) => ({ name: text.domains[i]!, tokens: total(targets), loss: total(sums) / Math.max(1, total(targets)), increase: [] as number[], increaseError: [] as number[] }))
    for (let layer = 0; layer < L; layer++) {
      for (let expert = 0; expert < E; expert++) {
        if (options.isStopped?.() === true) return null
        await pass.setBias(layer, new Float32Array(E).fill(-decisive, expert, expert + 1))
        const without = await lossesOf(pass, batches, text.domains.length)
        without.forEach((losses, i) => {
          const { increase, error } = increaseOf(plain[i]!, losses)
          domains[i]!.increase.push(increase)
          domains[i]!.increaseError.push(error)
        })
        options.onProgress?.(layer * E + expert + 1, L * E)
      }
      await pass.setBias(layer, new Float32Array(E))
    }
    return { format: 'moe-workbench-ablation', version: 1, model: model.id, layers: moeLayers(model.config), experts: E, tokens: total(domains.map(({ tokens }) => tokens)), domains }
  } finally {
    pass.release()
  }
}
