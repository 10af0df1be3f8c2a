/**
 * What a recipe will cost, and what is missing or odd about it, before anything is started. The sums are pure; what only the machine
 * knows (memory, disk, mixes, checkpoints) comes as `facts`. Speed is not estimated here: a probe measures it.
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { memoryPlanSchema } from './devices.ts'
import { countParameters, trainingFlopsPerToken } from './models.ts'
import { runConfigSchema, type RunConfig } from './runs.ts'

/** `blocks`: the run would fail; `odd`: it would run, and probably not as meant. Worded by the renderer by `code`. */
export const problemSchema = z.object({
  code: z.string(),
  severity: z.enum(['blocks', 'odd']),
  params: z.record(z.string(), z.union([z.string(), z.number()])),
})
export type Problem = z.infer<typeof problemSchema>

export const estimateSchema = z.object({
  totalParameters: z.number(),
  activeParameters: z.number(),
  flopsPerToken: z.number(),
  tokens: z.number(),
  tokensPerParameter: z.number(),
  flops: z.number(),
  /** Passes over the mix; null before it is built. */
  epochs: z.number().nullable(),
  memory: memoryPlanSchema.nullable(),
  checkpointBytes: z.number(),
  /** Kept checkpoints and the one being written. */
  diskBytes: z.number(),
  diskFreeBytes: z.number().nullable(),
  problems: z.array(problemSchema),
})
export type Estimate = z.infer<typeof estimateSchema>

export type EstimateFacts = {
  memory: Estimate['memory']
  diskFreeBytes: number | null
  /** The mix that the recipe names; null: not built yet; undefined: there is none. */
  mix: { trainTokens: number; vocabularySize: number } | null | undefined
  /** The checkpoint that it starts from; undefined: there is none. */
  start: { step: number; valid: boolean; isDense: boolean } | null | undefined
}

/** float32 weights and AdamW's two moments. */
const checkpointBytesPerParameter = 12

export function estimateRun(config: RunConfig, facts: EstimateFacts): Estimate {
  const { total, active } = countParameters(config.model)
  const flopsPerToken = trainingFlopsPerToken(config.model, config.sequenceLength)
  const firstStep = config.stage === 'fork' ? (facts.start?.step ?? 0) : 0
  const tokens = Math.max(0, config.steps - firstStep) * config.sequencesPerStep * config.sequenceLength
  const checkpointBytes = total * checkpointBytesPerParameter
  const estimate = {
    totalParameters: total,
    activeParameters: active,
    flopsPerToken,
    tokens,
    tokensPerParameter: tokens / active,
    flops: tokens * flopsPerToken,
    epochs: facts.mix ? tokens / facts.mix.trainTokens : null,
    memory: facts.memory,
    checkpointBytes,
    diskBytes: checkpointBytes * (config.keepCheckpoints + 1),
    diskFreeBytes: facts.diskFreeBytes,
  }
  return { ...estimate, problems: [...missing(config, facts, estimate), ...odd(config, estimate)] }
}

type Sums = Omit<Estimate, 'problems'>

function missing(config: RunConfig, facts: EstimateFacts, sums: Sums): Problem[] {
  const found: Problem[] = []
  const blocks = (code: string, params: Problem['params'] = {}): void => void found.push({ code, severity: 'blocks', params })
  if (facts.mix === undefined) blocks('mixMissing', { mix: config.mix })
  else if (facts.mix !== null && facts.mix.vocabularySize > config.model.vocab_size) blocks('vocabularyTooSmall', { found: config.model.vocab_size, expected: facts.mix.vocabularySize })
  if (config.startFrom !== null && facts.start === undefined) blocks('startMissing', { checkpoint: config.startFrom.checkpointId })
  if (facts.start?.valid === false) blocks('startDamaged', { checkpoint: config.startFrom!.checkpointId })
  if (config.stage === 'upcycle' && facts.start?.isDense === false) blocks('upcycleNeedsDense')
  if (config.stage === 'fork' && facts.start && facts.start.step >= config.steps) blocks('forkEndsBefore', { step: facts.start.step, steps: config.steps })
  const memory = sums.memory
  if (memory !== null && memory.memoryBytes !== null && memory.plannedBytes > memory.memoryBytes) blocks('memory', { needed: memory.plannedBytes, available: memory.memoryBytes })
  if (sums.diskFreeBytes !== null && sums.diskBytes > sums.diskFreeBytes) blocks('disk', { needed: sums.diskBytes, available: sums.diskFreeBytes })
  return found
}

function odd(config: RunConfig, sums: Sums): Problem[] {
  const found: Problem[] = []
  const notice = (code: string, params: Problem['params'] = {}): void => void found.push({ code, severity: 'odd', params })
  const { optimizer, model } = config
  if (optimizer.warmupSteps >= config.steps) notice('warmupTooLong', { warmup: optimizer.warmupSteps, steps: config.steps })
  if (optimizer.warmupSteps === 0 && config.stage === 'pretrain') notice('noWarmup')
  if (sums.epochs !== null && sums.epochs > 4) notice('manyEpochs', { epochs: Math.round(sums.epochs) })
  if (sums.tokensPerParameter < 1 && config.stage === 'pretrain') notice('fewTokens', { ratio: Number(sums.tokensPerParameter.toPrecision(2)) })
  if (model.num_experts > 0 && config.loadBalanceWeight === 0 && model.routing === 'token_choice') notice('noLoadBalance')
  if (config.checkpointEverySteps === 0 && config.steps > 1000) notice('noCheckpoints', { steps: config.steps })
  if (config.stage === 'anneal' && optimizer.minLearningRate > 0) notice('annealNotToZero')
  if (sums.memory !== null && sums.memory.memoryBytes !== null && sums.memory.plannedBytes <= sums.memory.memoryBytes && sums.memory.plannedBytes > 0.8 * sums.memory.memoryBytes) notice('memoryTight')
  return found
}

export const estimatesContract = {
  /** Takes no memory and starts nothing. */
  run: oc.input(z.object({ config: runConfigSchema })).output(estimateSchema),
}
