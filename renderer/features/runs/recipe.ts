/**
 * The recipe that the new-run form edits: a small model that this machine trains in minutes, or a copy of another run's.
 * `problems` says what is wrong with one, by field, from the contract's own schema.
 */
import type { z } from 'zod'
import type { Cluster } from '#core/shared/clusters.ts'
import { runConfigSchema, type OptimizerConfig, type Precision, type RunConfig } from '#core/shared/runs.ts'
import { choiceOf, deviceOfChoice } from '#renderer/features/devices/choice.ts'

/** The quick start's recipe (resources/presets/quickstart.json; tests/renderer holds them together). */
const starter = {
  model: {
    vocab_size: 4096,
    hidden_size: 128,
    intermediate_size: 128,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    num_experts: 16,
    num_experts_per_tok: 2,
    max_position_embeddings: 512,
    initializer_range: 0.06,
    eos_token_id: 0,
    pad_token_id: 1,
  },
  steps: 1400,
  sequenceLength: 256,
  sequencesPerStep: 4,
  optimizer: { peakLearningRate: 5e-3, minLearningRate: 3e-4, warmupSteps: 50 },
  evaluateEverySteps: 200,
  evaluationSequences: 8,
  checkpointEverySteps: 350,
}

/** What the form edits; null while a field holds no number. */
export type RecipeFields = {
  name: string
  /** A built mix's id, or "sample". */
  mix: string
  steps: number | null
  experts: number | null
  expertsPerToken: number | null
  layers: number | null
  hiddenSize: number | null
  learningRate: number | null
  schedule: OptimizerConfig['schedule']
  warmupSteps: number | null
  /** Where the schedule ends, as a share of the peak. */
  finalShare: number | null
  decaySteps: number | null
  loadBalanceWeight: number | null
  routerZWeight: number | null
  seed: number | null
  /** A choice of devices/choice.ts. */
  device: string
  precision: Precision
  /** Null: this machine. */
  cluster: Cluster | null
  /** Continued at each checkpoint, one a line. */
  prompts: string
  pauseOnNotFinite: boolean
}

/** Those that hold a number. */
export type NumberField = { [Key in keyof RecipeFields]: RecipeFields[Key] extends number | null ? Key : never }[keyof RecipeFields]

const finalShareOf = ({ minLearningRate, peakLearningRate }: OptimizerConfig): number => Number((minLearningRate / peakLearningRate).toPrecision(6))

/** The recipe to begin with: a copy of `from` (which may be a proxy of the page's state), else the small default. */
export function baseRecipe(from: RunConfig | null): RunConfig {
  return runConfigSchema.parse(from ?? starter)
}

export function fieldsOf(config: RunConfig, name: string): RecipeFields {
  return {
    name,
    mix: config.mix,
    steps: config.steps,
    experts: config.model.num_experts,
    expertsPerToken: config.model.num_experts_per_tok,
    layers: config.model.num_hidden_layers,
    hiddenSize: config.model.hidden_size,
    learningRate: config.optimizer.peakLearningRate,
    schedule: config.optimizer.schedule,
    warmupSteps: config.optimizer.warmupSteps,
    finalShare: finalShareOf(config.optimizer),
    decaySteps: config.optimizer.decaySteps,
    loadBalanceWeight: config.loadBalanceWeight,
    routerZWeight: config.routerZWeight,
    seed: config.seed,
    device: choiceOf(config),
    precision: config.precision,
    cluster: config.cluster,
    prompts: config.control.prompts.join('\n'),
    pauseOnNotFinite: config.control.pauseOnNotFinite,
  }
}

/** What the form made of the schedule. The lowest learning rate stays what it was to the last bit until it is changed. */
function optimizerOf(base: OptimizerConfig, { learningRate, schedule, warmupSteps, finalShare, decaySteps }: RecipeFields): unknown {
  const isAsBefore = learningRate === base.peakLearningRate && finalShare === finalShareOf(base)
  const lowest = learningRate === null || finalShare === null ? null : Number((learningRate * finalShare).toPrecision(12))
  return { ...base, schedule, warmupSteps, decaySteps, peakLearningRate: learningRate, minLearningRate: isAsBefore ? base.minLearningRate : lowest }
}

/** Lines as prompts; those of the base may have lines of their own. */
function promptsOf(base: readonly string[], text: string): readonly string[] {
  return text === base.join('\n') ? base : text.split('\n').filter((line) => line.trim() !== '')
}

/** The base with the form's fields in it; the vocabulary is the mix's (null: the base's). */
export function withFields(base: RunConfig, fields: RecipeFields, vocabularySize: number | null = null): unknown {
  return {
    ...base,
    ...deviceOfChoice(fields.device),
    precision: fields.precision,
    cluster: fields.cluster,
    // A cluster's stage begins with moments of its own.
    startFrom: fields.cluster !== null && base.startFrom !== null ? { ...base.startFrom, optimizer: false } : base.startFrom,
    name: fields.name,
    mix: fields.mix,
    steps: fields.steps,
    seed: fields.seed,
    loadBalanceWeight: fields.loadBalanceWeight,
    routerZWeight: fields.routerZWeight,
    model: {
      ...base.model,
      ...(vocabularySize !== null && { vocab_size: vocabularySize }),
      num_experts: fields.experts,
      num_experts_per_tok: fields.expertsPerToken,
      num_hidden_layers: fields.layers,
      hidden_size: fields.hiddenSize,
    },
    optimizer: optimizerOf(base.optimizer, fields),
    control: { ...base.control, prompts: promptsOf(base.control.prompts, fields.prompts), pauseOnNotFinite: fields.pauseOnNotFinite },
  }
}

const fieldOfPath: Record<string, keyof RecipeFields> = {
  name: 'name',
  mix: 'mix',
  steps: 'steps',
  seed: 'seed',
  device: 'device',
  adapter: 'device',
  precision: 'precision',
  'cluster.address': 'cluster',
  'cluster.folder': 'cluster',
  'cluster.workers': 'cluster',
  'cluster.gpusPerWorker': 'cluster',
  'cluster.python': 'cluster',
  loadBalanceWeight: 'loadBalanceWeight',
  routerZWeight: 'routerZWeight',
  'model.num_experts': 'experts',
  'model.num_experts_per_tok': 'expertsPerToken',
  'model.num_hidden_layers': 'layers',
  'model.hidden_size': 'hiddenSize',
  // The form has no heads: that they do not divide the width is the width's fault here.
  'model.num_attention_heads': 'hiddenSize',
  'optimizer.peakLearningRate': 'learningRate',
  'optimizer.minLearningRate': 'finalShare',
  'optimizer.warmupSteps': 'warmupSteps',
  'optimizer.decaySteps': 'decaySteps',
  'control.prompts': 'prompts',
}

export type Checked = { config: RunConfig | null; problems: { field: keyof RecipeFields | null; path: string; message: string }[] }

/** The valid recipe, or what is wrong with it. */
export function check(candidate: unknown): Checked {
  const parsed = runConfigSchema.safeParse(candidate)
  if (parsed.success) return { config: parsed.data, problems: [] }
  return { config: null, problems: parsed.error.issues.map(problemOf) }
}

function problemOf(issue: z.core.$ZodIssue): Checked['problems'][number] {
  const path = issue.path.map(String).join('.')
  return { field: fieldOfPath[path] ?? null, path, message: issue.message }
}
