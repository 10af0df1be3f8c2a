/**
 * Runs: one training of one model, its recipe, its life cycle and its series.
 * A run is data; a runner process makes it happen, the core supervises it and is the only writer of what is stored.
 *
 * Life: queued -> running -> (stopping) -> done | stopped | failed; a run whose runner or core died is `interrupted`.
 * stopped, failed and interrupted runs that have a valid checkpoint can be resumed: the same run goes on, bit for bit.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { binarySchema, errorDataSchema, idSchema } from './common.ts'
import { modelConfigSchema } from './models.ts'

export const runStatuses = ['queued', 'running', 'stopping', 'done', 'stopped', 'interrupted', 'failed'] as const
export const runStatusSchema = z.enum(runStatuses)
export type RunStatus = z.infer<typeof runStatusSchema>

export const deviceSchema = z.enum(['cpu', 'webgpu'])
export type Device = z.infer<typeof deviceSchema>

export const optimizerSchema = z.object({
  peakLearningRate: z.number().positive().default(4e-4),
  minLearningRate: z.number().min(0).default(4e-5),
  warmupSteps: z.int().min(0).default(0),
  schedule: z.enum(['cosine', 'linear', 'constant']).default('cosine'),
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.95]),
  eps: z.number().positive().default(1e-8),
  weightDecay: z.number().min(0).default(0.1),
  clip: z.number().min(0).default(1).describe('global gradient norm; 0 = no clipping'),
})
export type OptimizerConfig = z.infer<typeof optimizerSchema>

/** The exact recipe of a run: with the mix it names, it decides every bit of the result on one machine. */
export const runConfigSchema = z
  .object({
    name: z.string().trim().min(1).max(120).default('Untitled run'),
    stage: z.literal('pretrain').default('pretrain'),
    model: modelConfigSchema,
    mix: z.string().default('sample').describe('id of a built mix, or "sample" for the built-in one'),
    sequenceLength: z.int().min(8).default(256),
    sequencesPerStep: z.int().positive().default(8),
    sequencesPerMicroBatch: z.int().positive().nullable().default(null).describe('null: the whole step at once'),
    steps: z.int().positive(),
    optimizer: optimizerSchema.prefault({}),
    loadBalanceWeight: z.number().min(0).default(0.01),
    routerZWeight: z.number().min(0).default(0.001),
    seed: z.int().min(0).default(6198),
    evaluateEverySteps: z.int().min(0).default(100).describe('0 = only before the first and after the last step'),
    evaluationSequences: z.int().positive().default(16).describe('held-out sequences per domain'),
    checkpointEverySteps: z.int().min(0).default(200).describe('0 = only at the end'),
    keepCheckpoints: z.int().positive().default(3),
    device: deviceSchema.default('cpu'),
    threads: z.int().min(0).default(0).describe('0 = all cores'),
    precision: z.enum(['float32', 'mixed']).default('float32').describe('mixed: products in bf16 where the processor multiplies it, all else in float32'),
  })
  .superRefine((c, issues) => {
    const fail = (path: string[], message: string) => issues.addIssue({ code: 'custom', path, message })
    if (c.sequenceLength > c.model.max_position_embeddings) fail(['sequenceLength'], `must be at most the model's max_position_embeddings ${c.model.max_position_embeddings}`)
    const micro = c.sequencesPerMicroBatch ?? c.sequencesPerStep
    if (c.sequencesPerStep % micro !== 0) fail(['sequencesPerMicroBatch'], `must divide sequencesPerStep ${c.sequencesPerStep}`)
    if (c.optimizer.minLearningRate > c.optimizer.peakLearningRate) fail(['optimizer', 'minLearningRate'], 'must not exceed peakLearningRate')
  })
export type RunConfig = z.output<typeof runConfigSchema>

/** Keys of the scalar series. Losses are unscaled; `peakFraction` is model FLOP/s over the machine's measured peak. */
export const metricKeys = ['loss', 'loadBalance', 'routerZ', 'learningRate', 'gradNorm', 'tokensPerSecond', 'peakFraction'] as const
/** One of metricKeys, or `validation/<domain>` (mean cross-entropy in nats per token), or `validation` (mean over domains). */
export type MetricKey = (typeof metricKeys)[number] | 'validation' | `validation/${string}`

/**
 * All that is logged of one step (1-based): scalars by key, and the assignments of every expert, [layers × experts] row-major.
 * `tokens` and `elapsedMs` (training time) are sums over the whole run up to and with this step.
 */
export const stepRecordSchema = z.object({
  step: z.int(),
  tokens: z.number(),
  elapsedMs: z.number(),
  scalars: z.record(z.string(), z.number()),
  expertCounts: z.array(z.number()).nullable(),
})
export type StepRecord = z.infer<typeof stepRecordSchema>

export const runSchema = z.object({
  id: idSchema,
  name: z.string(),
  status: runStatusSchema,
  config: runConfigSchema,
  mixId: z.string().nullable(),
  createdAt: z.number(),
  startedAt: z.number().nullable(),
  endedAt: z.number().nullable(),
  step: z.int(),
  tokens: z.number(),
  /** Training seconds over all sessions of the run. */
  seconds: z.number(),
  lastLoss: z.number().nullable(),
  tokensPerSecond: z.number().nullable(),
  /** Estimated time left while running. */
  etaSeconds: z.number().nullable(),
  /** Wall-clock of the runner's last message, for a heartbeat on screen. */
  heartbeatAt: z.number().nullable(),
  /** Up to 60 losses over the whole run, for a sparkline. */
  sparkline: z.array(z.number()),
  /**
   * Step of the newest checkpoint whose files are known good, from which a resume would go on; 0 when there is none and a
   * resume would begin anew. Null when there is nothing to resume: the run is done, or queued or under way without one.
   */
  resumableStep: z.int().nullable(),
  error: errorDataSchema.nullable(),
})
export type Run = z.infer<typeof runSchema>

export const logLineSchema = z.object({ at: z.number(), level: z.enum(['info', 'warning', 'error']), text: z.string() })
export type LogLine = z.infer<typeof logLineSchema>

/** A phase of a job with its own bar: `done` of `total` in `unit`; `etaSeconds` null while unknown. */
export const phaseSchema = z.object({
  phase: z.string(),
  done: z.number(),
  total: z.number().nullable(),
  unit: z.string(),
  etaSeconds: z.number().nullable(),
})
export type Phase = z.infer<typeof phaseSchema>

export const runEventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('run'), run: runSchema }),
  z.object({ type: z.literal('steps'), steps: z.array(stepRecordSchema) }),
  /** Steps after `step` are void: the run goes on from there. */
  z.object({ type: z.literal('rewind'), step: z.int() }),
  z.object({ type: z.literal('phase'), phase: phaseSchema }),
  z.object({ type: z.literal('checkpoint'), checkpointId: idSchema }),
  z.object({ type: z.literal('log'), line: logLineSchema }),
  z.object({ type: z.literal('removed'), runId: idSchema }),
])
export type RunEvent = z.infer<typeof runEventSchema>

/** Points of one series; steps ascend. */
export const seriesSchema = z.object({ key: z.string(), steps: z.array(z.number()), values: z.array(z.number()) })
export type Series = z.infer<typeof seriesSchema>

/** Expert load over time: values = float32 [points × layers × experts], share of the layer's assignments (uniform = 1/experts). */
export const expertLoadSchema = z.object({ steps: z.array(z.number()), layers: z.int(), experts: z.int(), values: binarySchema })
export type ExpertLoad = z.infer<typeof expertLoadSchema>

const byId = z.object({ id: idSchema })

export const runsContract = {
  list: oc.output(z.array(runSchema)),
  get: oc.input(byId).output(runSchema),
  /** Creates and starts the run, or queues it behind the one that is running. */
  create: oc.input(z.object({ config: runConfigSchema })).output(runSchema),
  /** `save: true` ends with a checkpoint (resumable); false ends at once and keeps the last one. */
  stop: oc.input(z.object({ id: idSchema, save: z.boolean() })).output(runSchema),
  resume: oc.input(byId).output(runSchema),
  rename: oc.input(z.object({ id: idSchema, name: z.string().trim().min(1).max(120) })).output(runSchema),
  /** Deletes the run, its series and log; its checkpoints and their files too when `checkpoints` is set (else it is refused while it has any). */
  remove: oc.input(z.object({ id: idSchema, checkpoints: z.boolean() })).output(z.object({ freedBytes: z.number() })),
  /** At most `maxPoints` points per key, thinned by keeping the extremes of each bucket. */
  metrics: oc.input(z.object({ id: idSchema, keys: z.array(z.string()).nullable(), maxPoints: z.int().positive().default(4000) })).output(z.array(seriesSchema)),
  expertLoad: oc.input(z.object({ id: idSchema, maxPoints: z.int().positive().default(200) })).output(expertLoadSchema),
  log: oc.input(byId).output(z.array(logLineSchema)),
  /** Events of one run from now on; first the run itself. */
  watch: oc.input(byId).output(eventIterator(runEventSchema)),
  /** Changes of any run (only `run` and `removed` events). */
  watchAll: oc.output(eventIterator(runEventSchema)),
}
