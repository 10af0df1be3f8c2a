/**
 * The routing analysis: one forward pass over a text, and over the same batches through every checkpoint it is compared with, into counters
 * and from those into what is stored. Counting a batch and computing the next one go on side by side.
 */
import type { Backend } from '#core/backend/backend.ts'
import { moeLayers, type ModelConfig } from '#core/shared/models.ts'
import type { PackedWeights } from '#core/model/packed-weights.ts'
import type { Weights } from '#core/model/parameters.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ExpertDetail, ExpertExample, RoutingCounters } from '#core/shared/analyses.ts'
import type { Example } from './contexts.ts'
import { countersBound, createCounters, domainCounts, variants, type Counters, type Segment } from './counters.ts'
import { createRoutedPass, routingShape, type RoutedPass } from './pass.ts'
import { createSaturation, type Saturation } from './saturation.ts'
import type { AnalysedText } from './text.ts'
import { expertTokens, vocabularySpecialization } from './vocabulary.ts'

export type AnalysedModel = { id: string; label: string; step: number | null; config: ModelConfig; weights: Weights | PackedWeights }

export type RoutingOptions = {
  sequence: number
  sequences: number
  /** Most bytes that the counters may take. */
  memoryBytes: number
  /** Decodes ids to text. */
  decode(ids: readonly number[]): string
  onProgress?(doneTokens: number, totalTokens: number): void
  /** Asked between batches. */
  isStopped?(): boolean
}

export type RoutingResult = {
  counters: RoutingCounters
  /** Details of all experts of one of `counters.layers`, by its index. */
  details(layer: number): ExpertDetail[]
}

function requireMemory(shape: Parameters<typeof countersBound>[0], text: AnalysedText, memoryBytes: number): void {
  const neededBytes = countersBound(shape, text.tokens, text.domains.length)
  if (neededBytes <= memoryBytes) return
  throw new AppError('analyze.memory', `The counters of ${text.tokens} tokens may take ${neededBytes} bytes, ${memoryBytes} may be used`, {
    params: { sizeBytes: neededBytes, limitBytes: memoryBytes },
    hint: 'Analyse fewer tokens, or use a machine with more memory.',
  })
}

function requireComparable(model: ModelConfig, other: AnalysedModel): void {
  const of = (c: ModelConfig): string => `${moeLayers(c).join(' ')} × ${c.num_experts} experts, top ${c.num_experts_per_tok}, ${c.vocab_size} tokens`
  if (of(model) === of(other.config)) return
  throw new AppError('analyze.incomparable', `${other.label} has layers ${of(other.config)}; expected ${of(model)}`, {
    params: { found: of(other.config), expected: of(model), model: other.label },
    hint: 'Only checkpoints of the same shape can be compared expert by expert.',
  })
}

type Compared = { model: AnalysedModel; pass: RoutedPass; saturation: Saturation }

/** Runs the text through the model, and through those it is compared with. Null when it was stopped. Throws analyze.memory, analyze.incomparable. */
export async function analyseRouting(backend: Backend, model: AnalysedModel, against: readonly AnalysedModel[], text: AnalysedText, options: RoutingOptions): Promise<RoutingResult | null> {
  const shape = routingShape(model.config)
  requireMemory(shape, text, options.memoryBytes)
  against.forEach((other) => requireComparable(model.config, other))
  const counters = createCounters(shape, text.domains)
  const { sequence, sequences } = options
  const pass = await createRoutedPass(backend, model.config, model.weights, { sequence, sequences, head: true })
  const compared: Compared[] = []
  for (const other of against) {
    compared.push({ model: other, pass: await createRoutedPass(backend, other.config, other.weights, { sequence, sequences, head: false }), saturation: createSaturation(shape) })
  }
  try {
    let waiting: (() => void) | null = null
    let done = 0
    for (const { ids, targets, segments } of text.batches()) {
      if (options.isStopped?.() === true) return null
      await pass.write(ids, targets)
      const running = pass.run()
      waiting?.()
      await running
      const seen = await pass.read()
      waiting = () => counters.add(seen, segments)
      await compare(compared, ids, targets, seen.experts, segments)
      options.onProgress?.((done = Math.min(text.tokens, done + pass.tokens)), text.tokens)
      await new Promise((resolve) => setImmediate(resolve))
    }
    waiting?.()
  } finally {
    pass.release()
    compared.forEach((other) => other.pass.release())
  }
  return { counters: toStored(model, counters, compared, sequence), details: (layer) => detailsOf(model.config, counters, layer, options.decode) }
}

async function compare(compared: readonly Compared[], ids: Int32Array, targets: Int32Array, experts: Int32Array[], segments: readonly Segment[]): Promise<void> {
  for (const { pass, saturation } of compared) {
    await pass.write(ids, targets)
    await pass.run()
    saturation.add(experts, (await pass.read()).experts, segments)
  }
}

/** N_ij from counts by rank: both orders together. */
function symmetric(counts: Uint32Array, experts: number): number[] {
  return Array.from(counts, (count, i) => count + counts[(i % experts) * experts + Math.floor(i / experts)]!)
}

function toStored(model: AnalysedModel, counters: Counters, compared: readonly Compared[], sequenceLength: number): RoutingCounters {
  const { experts: E } = counters.shape
  const tokens = counters.total()
  return {
    format: 'moe-workbench-routing',
    version: 1,
    model: model.id,
    layers: moeLayers(model.config),
    experts: E,
    topK: counters.shape.topK,
    sequenceLength,
    tokens,
    domains: counters.domains.map(domainCounts),
    pairs: counters.pairs.map((counts) => symmetric(counts, E)),
    adjacentPairs: counters.adjacent.map((counts) => symmetric(counts, E)),
    flows: counters.flows.map(({ from, to, counts }) => ({ from, to, counts: Array.from(counts) })),
    gateHistogram: counters.gateHistogram.map((counts) => Array.from(counts)),
    probabilitySum: counters.probabilitySum.map((sums) => Array.from(sums)),
    gateSum: counters.gateSum.map((sums) => Array.from(sums)),
    entropyHistogram: counters.entropyHistogram.map((counts) => Array.from(counts)),
    entropyMean: Array.from(counters.entropySum, (sum) => (tokens > 0 ? sum / tokens : 0)),
    saturation: compared.map(({ model: { id, label, step }, saturation }) => ({ checkpointId: id, label, step, ...saturation.result() })),
    vocabulary: vocabularySpecialization(counters),
  }
}

function detailsOf(config: ModelConfig, counters: Counters, layer: number, decode: RoutingOptions['decode']): ExpertDetail[] {
  const { shape, contexts, domains } = counters
  const text = (id: number): string => decode([id])
  const [input, predicted, truth] = variants.map((variant) => expertTokens(shape, counters.tokens[variant], layer, text))
  const example = ({ ids, at, weight, domain }: Example): ExpertExample => ({
    before: decode(ids.slice(0, at)),
    token: decode(ids.slice(at, at + 1)),
    after: decode(ids.slice(at + 1)),
    weight,
    domain: domains[domain]!.name,
  })
  return Array.from({ length: shape.experts }, (_, expert) => ({
    layer: moeLayers(config)[layer]!,
    expert,
    tokens: { input: input![expert]!, predicted: predicted![expert]!, truth: truth![expert]! },
    strongest: contexts.strongest(layer, expert).map(example),
    sample: contexts.sample(layer, expert).map(example),
  }))
}
