/**
 * Experiments: groups of runs that differ in one knob, over one or several seeds. Made from a template of the paper in one call; data
 * order, seed and budget are the same in every arm. What came out is computed from the runs' own series (experiment-results.ts).
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { idSchema } from './common.ts'
import { templateOf, templates, type Template } from './experiment-templates.ts'
import { recipeFor, type StartingPoint } from './stages.ts'
import { deviceSchema, runConfigSchema, runSchema, type RunConfig } from './runs.ts'

export const scales = ['minutes', 'hour'] as const
export type Scale = (typeof scales)[number]

export const experimentInputSchema = z
  .object({
    template: z.enum(templates.map(({ id }) => id) as [string, ...string[]]),
    scale: z.enum(scales).default('minutes'),
    /** Each arm is run once per seed. */
    seeds: z.array(z.int().min(0)).min(1).max(5).default([6198]),
    /** Steps of each run; null: the scale's. */
    steps: z.int().min(10).nullable().default(null),
    mix: z.string().default('sample'),
    /** For the experiment on data alone. */
    secondMix: z.string().nullable().default(null),
    denseCheckpointId: idSchema.nullable().default(null),
    device: deviceSchema.default('cpu'),
  })
  .superRefine((input, issues) => {
    const { needs } = templateOf(input.template)
    if (needs === 'denseCheckpoint' && input.denseCheckpointId === null) issues.addIssue({ code: 'custom', path: ['denseCheckpointId'], message: 'must name a checkpoint of a dense model' })
    if (needs === 'twoMixes' && (input.secondMix === null || input.secondMix === input.mix)) issues.addIssue({ code: 'custom', path: ['secondMix'], message: 'must name another mix' })
    if (new Set(input.seeds).size < input.seeds.length) issues.addIssue({ code: 'custom', path: ['seeds'], message: 'must differ' })
  })
export type ExperimentInput = z.output<typeof experimentInputSchema>

export const experimentSchema = z.object({ id: idSchema, createdAt: z.number(), input: experimentInputSchema })
export type Experiment = z.infer<typeof experimentSchema>

const scaleSettings = {
  minutes: { hidden: 64, layers: 4, heads: 4, active: 128, vocabulary: 2048, sequence: 128, sequences: 8, steps: 400 },
  hour: { hidden: 128, layers: 6, heads: 4, active: 256, vocabulary: 4096, sequence: 256, sequences: 8, steps: 3000 },
} as const satisfies Record<Scale, object>

/** What every arm starts from before its knob is turned. */
export function baseConfig({ scale, steps, mix, device }: Pick<ExperimentInput, 'scale' | 'steps' | 'mix' | 'device'>): RunConfig {
  const s = scaleSettings[scale]
  const total = steps ?? s.steps
  return runConfigSchema.parse({
    model: {
      vocab_size: s.vocabulary, hidden_size: s.hidden, num_hidden_layers: s.layers, num_attention_heads: s.heads, max_position_embeddings: s.sequence,
      num_experts: 16, num_experts_per_tok: 2, intermediate_size: s.active / 2, initializer_range: 0.06, eos_token_id: 0, pad_token_id: 1,
    },
    mix,
    device,
    sequenceLength: s.sequence,
    sequencesPerStep: s.sequences,
    steps: total,
    optimizer: { peakLearningRate: 0.004, minLearningRate: 0.0004, warmupSteps: Math.max(1, Math.round(total / 20)) },
    evaluateEverySteps: Math.max(1, Math.round(total / 20)),
    evaluationSequences: 16,
    checkpointEverySteps: 0,
    keepCheckpoints: 1,
  })
}

export type PlannedRun = { arm: string; config: RunConfig }

/** The runs of an experiment, in the order in which they are queued: every arm of a seed, then the next seed. `dense`: the checkpoint it needs. */
export function planExperiment(input: ExperimentInput, dense: StartingPoint | null): PlannedRun[] {
  const template = templateOf(input.template)
  return input.seeds.flatMap((seed) =>
    template.arms.map(({ id, change }) => {
      const arm = input.denseCheckpointId === null ? change(baseConfig(input)) : upcyclingArm(id, input, dense!)
      const mix = id === 'second' ? input.secondMix! : input.mix
      return { arm: id, config: runConfigSchema.parse({ ...arm, mix, seed, name: `${input.template} · ${id}${input.seeds.length > 1 ? ` · ${seed}` : ''}` }) }
    }),
  )
}

/** Both arms have the dense model's upcycled shape and its data; one of them starts from fresh weights. */
function upcyclingArm(arm: string, input: ExperimentInput, dense: StartingPoint): RunConfig {
  const upcycled = recipeFor('upcycle', dense)
  const steps = input.steps ?? scaleSettings[input.scale].steps
  const shared = { ...upcycled, steps, checkpointEverySteps: 0, keepCheckpoints: 1, evaluateEverySteps: Math.max(1, Math.round(steps / 20)), device: input.device, optimizer: { ...upcycled.optimizer, warmupSteps: Math.round(steps / 20) } }
  if (arm === 'scratch') return { ...shared, stage: 'pretrain', startFrom: null }
  return { ...shared, startFrom: { ...shared.startFrom!, noise: arm === 'noise' ? 0.5 : 0 } }
}

/** Mean and extremes over seeds; `deviation` null with one seed. */
const spreadSchema = z.object({ mean: z.number(), min: z.number(), max: z.number(), deviation: z.number().nullable(), count: z.int() })
export const armResultSchema = z.object({
  arm: z.string(),
  runIds: z.array(idSchema),
  done: z.int(),
  /** Held-out loss at the end; null before any run of the arm is done. */
  validation: spreadSchema.nullable(),
  /** Seed by seed, that loss minus the one of the arm that the paper found better; null for that arm itself, and while no seed has both. */
  difference: spreadSchema.nullable(),
  trainLoss: spreadSchema.nullable(),
  tokensPerSecond: spreadSchema.nullable(),
  totalParameters: z.number(),
  activeParameters: z.number(),
  flopsPerToken: z.number(),
  /** Tokens that this arm needed to reach the final loss of the worst arm, as a part of that arm's tokens; null: not reached. */
  tokensToReach: z.object({ arm: z.string(), tokens: z.number(), ratio: z.number() }).nullable(),
})
export type ArmResult = z.infer<typeof armResultSchema>

/** `undecided`: the difference is within what seeds make of it, or with one seed too small to tell. */
export const verdicts = ['pending', 'agrees', 'differs', 'undecided'] as const
export const experimentResultSchema = z.object({
  experiment: experimentSchema,
  runs: z.array(runSchema),
  arms: z.array(armResultSchema),
  verdict: z.enum(verdicts),
  /** Held-out loss of the arm that the paper found better, minus that of the best other. */
  difference: z.number().nullable(),
})
export type ExperimentResult = z.infer<typeof experimentResultSchema>
export type { Template }

export const experimentsContract = {
  list: oc.output(z.array(experimentSchema.extend({ done: z.int(), runs: z.int() }))),
  get: oc.input(z.object({ id: idSchema })).output(experimentResultSchema),
  /** The runs as they would be made; nothing is started. */
  plan: oc.input(experimentInputSchema).output(z.array(z.object({ arm: z.string(), config: runConfigSchema }))),
  /** Makes all runs of the experiment and queues them. */
  create: oc.input(experimentInputSchema).output(experimentSchema),
  /** Forgets the experiment; its runs stay, as runs of none. Refused while one is under way. */
  remove: oc.input(z.object({ id: idSchema })).output(z.object({})),
}
