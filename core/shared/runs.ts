/**
 * Runs: one training of one model, its recipe, its life cycle and its series.
 * A run is data; a runner process makes it happen, the core supervises it and is the only writer of what is stored.
 *
 * Life: queued -> running -> (stopping) -> done | stopped | failed; a run whose runner or core died is `interrupted`.
 * stopped, failed and interrupted runs that have a valid checkpoint can be resumed: the same run goes on, bit for bit on the
 * same device.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { adaptationSchema, adaptationStages, isAdaptation } from './adaptation.ts'
import { alertSchema } from './alerts.ts'
import { clusterProblem, clusterSchema } from './clusters.ts'
import { binarySchema, errorDataSchema, idSchema } from './common.ts'
import { modelConfigSchema } from './models.ts'
import { changeSchema, controlSchema, interventionSchema, sampleSchema } from './run-control.ts'

export const runStatuses = ['queued', 'running', 'stopping', 'done', 'stopped', 'interrupted', 'failed'] as const
export const runStatusSchema = z.enum(runStatuses)
export type RunStatus = z.infer<typeof runStatusSchema>

export const deviceSchema = z.enum(['cpu', 'webgpu'])
export type Device = z.infer<typeof deviceSchema>

export const precisionSchema = z.enum(['float32', 'mixed'])
export type Precision = z.infer<typeof precisionSchema>

/** What a run computes on, as it was when its runner opened it. */
export const runDeviceSchema = z.object({
  /** `ray`: a cluster, whose workers are named. */
  kind: z.enum([...deviceSchema.options, 'ray']),
  name: z.string(),
  /** A card's interface (vulkan, metal, d3d12); the CPU's instruction set; a cluster's address. */
  api: z.string(),
  /** Empty for the CPU; Ray's and PyTorch's versions. */
  driver: z.string(),
  /** What is computed in, which may be less than was asked for. */
  precision: precisionSchema,
  isSoftware: z.boolean(),
  /** Measured multiply-add peak; null when it was not to be had. */
  flopsPerSecond: z.number().nullable(),
})
export type RunDevice = z.infer<typeof runDeviceSchema>

export const schedules = ['cosine', 'linear', 'constant', 'warmup-stable-decay'] as const

/**
 * What a run is in the life of a model.
 *  pretrain  from fresh weights
 *  anneal    a checkpoint's weights; the learning rate goes to 0 over data in a new order
 *  continue  a checkpoint's weights; other data or settings, steps and schedule from 0
 *  fork      a checkpoint as it stands: same step, same place in the data order, changed settings from there
 *  import    made elsewhere: a run of no steps that its checkpoint belongs to
 *  upcycle   a dense checkpoint's weights, its feed-forward network cloned into every expert, the router new
 *  sft, dpo, kto   a checkpoint's weights, adapted to conversations (core/shared/adaptation.ts)
 */
export const stages = ['pretrain', 'anneal', 'continue', 'fork', 'upcycle', ...adaptationStages, 'import'] as const
export type Stage = (typeof stages)[number]

/** The checkpoint that a later stage starts from. A resume of the run goes on from its own checkpoints instead. */
export const startFromSchema = z.object({
  checkpointId: idSchema,
  /** Whether AdamW goes on with the checkpoint's moments. Never for upcycle, whose experts have none. */
  optimizer: z.boolean().default(true),
  /** Upcycle: the share of every expert's weights that is drawn anew, so that experts differ (Appendix F: 0.5). */
  noise: z.number().min(0).max(1).default(0),
})
export type StartFrom = z.output<typeof startFromSchema>

export const optimizerSchema = z.object({
  peakLearningRate: z.number().positive().default(4e-4),
  minLearningRate: z.number().min(0).default(4e-5),
  warmupSteps: z.int().min(0).default(0),
  warmupStart: z.number().min(0).max(1).default(0.1).describe('where the warm-up begins, as a fraction of the peak'),
  schedule: z.enum(schedules).default('cosine'),
  scheduleSteps: z.int().positive().nullable().default(null).describe('steps after which the minimum is reached; null = those of the run'),
  decaySteps: z.int().min(0).default(0).describe('length of the linear decay at the end of warmup-stable-decay'),
  betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.95]),
  eps: z.number().positive().default(1e-8),
  weightDecay: z.number().min(0).default(0.1),
  decayNorms: z.boolean().default(true).describe('whether weight decay reaches the weights of norms'),
  decayEmbeddings: z.boolean().default(true).describe('whether weight decay reaches the input embedding'),
  clip: z.number().min(0).default(1).describe('global gradient norm; 0 = no clipping'),
})
export type OptimizerConfig = z.infer<typeof optimizerSchema>

/** The exact recipe of a run: with the mix it names, it decides every bit of the result on one machine. */
export const runConfigSchema = z
  .object({
    name: z.string().trim().min(1).max(120).default('Untitled run'),
    stage: z.enum(stages).default('pretrain'),
    startFrom: startFromSchema.nullable().default(null),
    model: modelConfigSchema,
    mix: z.string().default('sample').describe('id of a built mix, or "sample" for the built-in one'),
    adaptation: adaptationSchema.nullable().default(null).describe('for sft, dpo and kto, which read no mix'),
    sequenceLength: z.int().min(8).default(256),
    sequencesPerStep: z.int().positive().default(8).describe('of DPO pairs, of KTO answers'),
    sequencesPerMicroBatch: z.int().positive().nullable().default(null).describe('null: the whole step at once'),
    steps: z.int().min(0).describe('0 = an import'),
    optimizer: optimizerSchema.prefault({}),
    loadBalanceWeight: z.number().min(0).default(0.01),
    routerZWeight: z.number().min(0).default(0.001),
    seed: z.int().min(0).default(6198),
    dataSeed: z.int().min(0).nullable().default(null).describe('seed of the data order alone; null = seed'),
    evaluateEverySteps: z.int().min(0).default(100).describe('0 = only before the first and after the last step'),
    evaluationSequences: z.int().positive().default(16).describe('held-out sequences per domain'),
    checkpointEverySteps: z.int().min(0).default(200).describe('0 = only at the end'),
    keepCheckpoints: z.int().positive().default(3),
    device: deviceSchema.default('cpu'),
    adapter: z.string().min(1).max(300).nullable().default(null).describe('id of the graphics card, for webgpu; null = the first real one'),
    precision: precisionSchema.default('float32').describe('mixed: 16-bit operands of matrix products, summed in float32: bf16 in all products on a CPU that has it, float16 in the forward ones on a card'),
    threads: z.int().min(0).default(0).describe('0 = all cores'),
    cluster: clusterSchema.nullable().default(null).describe('trains there instead of on this machine'),
    control: controlSchema.prefault({}),
  })
  .superRefine((c, issues) => {
    const fail = (path: string[], message: string) => issues.addIssue({ code: 'custom', path, message })
    if (c.sequenceLength > c.model.max_position_embeddings) fail(['sequenceLength'], `must be at most the model's max_position_embeddings ${c.model.max_position_embeddings}`)
    const micro = c.sequencesPerMicroBatch ?? c.sequencesPerStep
    if (c.sequencesPerStep % micro !== 0) fail(['sequencesPerMicroBatch'], `must divide sequencesPerStep ${c.sequencesPerStep}`)
    if ((c.stage === 'import') !== (c.steps === 0)) fail(['steps'], c.steps === 0 ? 'must be at least 1' : 'must be 0: an import makes no steps')
    const isFirst = c.stage === 'pretrain' || c.stage === 'import'
    if (isFirst !== (c.startFrom === null)) fail(['startFrom'], c.startFrom === null ? `must name a checkpoint: the stage is ${c.stage}` : 'must be null: pretraining starts from fresh weights, an import has its own')
    if (isAdaptation(c.stage) !== (c.adaptation !== null)) fail(['adaptation'], c.adaptation === null ? `must say what the conversations are: the stage is ${c.stage}` : 'is for sft, dpo and kto only')
    if (isAdaptation(c.stage) && c.startFrom?.optimizer) fail(['startFrom', 'optimizer'], 'must be false: adaptation begins with moments of its own')
    if (c.stage === 'upcycle' && c.startFrom?.optimizer) fail(['startFrom', 'optimizer'], 'must be false: the experts have no moments')
    if (c.stage === 'upcycle' && (c.model.num_experts === 0 || c.model.share_moe_across_layers)) fail(['model', c.model.num_experts === 0 ? 'num_experts' : 'share_moe_across_layers'], 'upcycling makes experts, one set for each layer')
    if (c.stage !== 'upcycle' && (c.startFrom?.noise ?? 0) > 0) fail(['startFrom', 'noise'], 'is for upcycling only')
    if (c.optimizer.schedule === 'warmup-stable-decay' && c.optimizer.warmupSteps + c.optimizer.decaySteps > (c.optimizer.scheduleSteps ?? c.steps)) fail(['optimizer', 'decaySteps'], 'warm-up and decay must fit into the schedule')
    const problem = clusterProblem(c)
    if (problem !== null) fail(problem.path, problem.message)
    if (c.optimizer.minLearningRate > c.optimizer.peakLearningRate) fail(['optimizer', 'minLearningRate'], 'must not exceed peakLearningRate')
  })
export type RunConfig = z.output<typeof runConfigSchema>

/** Keys of the scalar series. Losses are unscaled; `peakFraction` is model FLOP/s over the machine's measured peak. */
export const metricKeys = ['loss', 'loadBalance', 'routerZ', 'learningRate', 'gradNorm', 'tokensPerSecond', 'peakFraction'] as const
/** Of adaptation: implicit rewards, how often the wanted answer has the higher one (`rewardAccuracy`) or the higher probability (`preferenceAccuracy`), KTO's divergence; `validation/…` of the same on held-out prompts. */
export const adaptationMetricKeys = ['rewardChosen', 'rewardRejected', 'rewardMargin', 'rewardAccuracy', 'preferenceAccuracy', 'kl', 'tokenAccuracy'] as const
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
  /** The device of the session under way, or of the last one; null before the first was opened. */
  runningOn: runDeviceSchema.nullable(),
  error: errorDataSchema.nullable(),
  note: z.string(),
  tags: z.array(z.string()),
  archivedAt: z.number().nullable(),
  /** The experiment that made it, and its arm there. */
  experimentId: idSchema.nullable(),
  arm: z.string().nullable(),
  /** When it was queued; the queue is in this order. */
  queuedAt: z.number(),
  openAlerts: z.int(),
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
  z.object({ type: z.literal('alert'), alert: alertSchema }),
  z.object({ type: z.literal('intervention'), intervention: interventionSchema }),
  z.object({ type: z.literal('sample'), sample: sampleSchema }),
  z.object({ type: z.literal('removed'), runId: idSchema }),
])
export type RunEvent = z.infer<typeof runEventSchema>

/** Points of one series; steps ascend. */
export const seriesSchema = z.object({ key: z.string(), steps: z.array(z.number()), values: z.array(z.number()) })
export type Series = z.infer<typeof seriesSchema>

/** Expert load over time: values = float32 [points × layers × experts], share of the layer's assignments (uniform = 1/experts). */
export const expertLoadSchema = z.object({ steps: z.array(z.number()), layers: z.int(), experts: z.int(), values: binarySchema })
export type ExpertLoad = z.infer<typeof expertLoadSchema>

export const queueSchema = z.object({ paused: z.boolean(), runIds: z.array(idSchema) })
export type Queue = z.infer<typeof queueSchema>

const byId = z.object({ id: idSchema })

export const runsContract = {
  list: oc.output(z.array(runSchema)),
  get: oc.input(byId).output(runSchema),
  /** Creates and starts the run, or queues it behind the one that is running. */
  create: oc.input(z.object({ config: runConfigSchema.refine(({ stage }) => stage !== 'import', { path: ['stage'], message: 'an import is made by importing' }) })).output(runSchema),
  /** `save: true` ends with a checkpoint (resumable); false ends at once and keeps the last one. */
  stop: oc.input(z.object({ id: idSchema, save: z.boolean() })).output(runSchema),
  /** With `device`, goes on on that kind of device, and the run's recipe says so from then on. */
  resume: oc.input(byId.extend({ device: deviceSchema.optional() })).output(runSchema),
  rename: oc.input(z.object({ id: idSchema, name: z.string().trim().min(1).max(120) })).output(runSchema),
  /** Deletes the run, its series and log; its checkpoints and their files too when `checkpoints` is set (else it is refused while it has any). */
  remove: oc.input(z.object({ id: idSchema, checkpoints: z.boolean() })).output(z.object({ freedBytes: z.number() })),
  /** At most `maxPoints` points per key of the whole run or a part of it, thinned by keeping the extremes of each bucket. */
  metrics: oc
    .input(
      z.object({
        id: idSchema,
        keys: z.array(z.string()).nullable(),
        maxPoints: z.int().positive().default(4000),
        fromStep: z.int().min(0).optional(),
        toStep: z.int().min(0).optional(),
      }),
    )
    .output(z.array(seriesSchema)),
  expertLoad: oc.input(z.object({ id: idSchema, maxPoints: z.int().positive().default(200) })).output(expertLoadSchema),
  log: oc.input(byId).output(z.array(logLineSchema)),
  alerts: oc.input(byId).output(z.array(alertSchema)),
  dismissAlerts: oc.input(z.object({ id: idSchema, alertIds: z.array(idSchema) })).output(runSchema),
  interventions: oc.input(byId).output(z.array(interventionSchema)),
  samples: oc.input(byId).output(z.array(sampleSchema)),
  /** Changes the recipe from the next step on; of a run that does not work right now, from where it will go on. */
  change: oc.input(z.object({ id: idSchema, change: changeSchema })).output(runSchema),
  /**
   * Back to a checkpoint (null: to the beginning), and on from there without the batches of `skip`. Later checkpoints are removed, which
   * is refused while other runs start from them. A run under way is stopped first.
   */
  rollBack: oc
    .input(z.object({ id: idSchema, checkpointId: idSchema.nullable(), skip: z.object({ step: z.int().positive(), steps: z.int().min(1).max(1000) }).nullable() }))
    .output(runSchema),
  annotate: oc
    .input(z.object({ id: idSchema, note: z.string().max(10_000).optional(), tags: z.array(z.string().trim().min(1).max(40)).max(20).optional(), archived: z.boolean().optional() }))
    .output(runSchema),
  /** Runs that start from a checkpoint of this one. */
  dependants: oc.input(byId).output(z.array(z.object({ id: idSchema, name: z.string(), checkpointId: idSchema }))),
  queue: oc.output(queueSchema),
  /** The queued runs in their new order; those left out keep theirs behind them. */
  reorderQueue: oc.input(z.object({ ids: z.array(idSchema) })).output(queueSchema),
  /** A paused queue begins no run; the one under way goes on. */
  pauseQueue: oc.input(z.object({ paused: z.boolean() })).output(queueSchema),
  /** The recipe of a later stage that starts from a checkpoint, ready to be changed and created. */
  recipeFrom: oc.input(z.object({ checkpointId: idSchema, stage: z.enum(stages).exclude(['pretrain', 'import']) })).output(runConfigSchema),
  /** Events of one run from now on; first the run itself. */
  watch: oc.input(byId).output(eventIterator(runEventSchema)),
  /** Changes of any run (only `run` and `removed` events). */
  watchAll: oc.output(eventIterator(runEventSchema)),
}
