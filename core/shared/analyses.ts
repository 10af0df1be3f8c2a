/**
 * Analyses of routing: what a checkpoint's experts do on chosen text. One pass collects counters; every figure is a function of them
 * (routing-statistics.ts). A job of its own switches experts off one by one. Results are files of `analyses/<id>/`: counters.json,
 * experts-<layer>.json, or ablation.json. An analysis is found again by what was asked of what: checkpoint, data, kind.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { tokenSchema } from './chats.ts'
import { errorDataSchema, idSchema } from './common.ts'
import { phaseSchema } from './runs.ts'

const numbers = z.array(z.number())

export const analysisDataSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('mix'),
    mixId: idSchema,
    split: z.enum(['train', 'validation']).default('validation'),
    /** Names of its domains; null: all. */
    domains: z.array(z.string()).min(1).nullable().default(null),
    /** At most so many tokens of each domain, spread evenly over it. */
    tokensPerDomain: z.int().min(1).max(100_000_000).default(200_000),
  }),
  z.object({ kind: z.literal('text'), text: z.string().min(1).max(2_000_000) }),
])
export type AnalysisData = z.output<typeof analysisDataSchema>

export const analysisKinds = ['routing', 'ablation'] as const
export const analysisSpecSchema = z.object({
  kind: z.enum(analysisKinds).default('routing'),
  checkpointId: idSchema,
  /** Checkpoints whose routing of the same tokens is compared (saturation); a run's earlier ones, or the base of an SFT. */
  against: z.array(idSchema).max(16).default([]),
  data: analysisDataSchema,
  /** null: 256, or the model's context where that is shorter. */
  sequenceLength: z.int().min(8).nullable().default(null),
})
export type AnalysisSpec = z.output<typeof analysisSpecSchema>

export const analysisSchema = z.object({
  id: idSchema,
  spec: analysisSpecSchema,
  status: z.enum(['running', 'done', 'stopped', 'failed']),
  createdAt: z.number(),
  endedAt: z.number().nullable(),
  /** Tokens that were analysed, once it is done. */
  tokens: z.number().nullable(),
  phase: phaseSchema.nullable(),
  error: errorDataSchema.nullable(),
})
export type Analysis = z.output<typeof analysisSchema>

/** Bins of the histograms of gate weights and of entropies, over 0..1. */
export const histogramBins = 20

const domainCountsSchema = z.object({
  name: z.string(),
  tokens: z.number(),
  sequences: z.number(),
  /** Mean cross-entropy of the targets, in nats. */
  loss: z.number(),
  /** Assignments by layer and expert, row-major: among the top k, and as first choice. */
  topK: numbers,
  top1: numbers,
  /** Standard errors of the two as shares of the domain's tokens, whole sequences being drawn. */
  topKError: numbers,
  top1Error: numbers,
})
export type DomainCounts = z.infer<typeof domainCountsSchema>

const saturationSchema = z.object({
  checkpointId: z.string(),
  label: z.string(),
  step: z.number().nullable(),
  /** By layer: share of experts in common among the top k, share of equal first choices (reference: Eq 5), and their standard errors. */
  topK: numbers,
  top1: numbers,
  topKError: numbers,
  top1Error: numbers,
  /** Assignments of the other checkpoint by layer and expert, on the same tokens. */
  counts: numbers,
})

/** All that one pass counted, except the counts by token id. Matrices are row-major; `layers` are the model's layers that have experts. */
export const routingCountersSchema = z.object({
  format: z.literal('moe-workbench-routing'),
  version: z.literal(1),
  model: z.string(),
  layers: z.array(z.int()),
  experts: z.int(),
  topK: z.int(),
  sequenceLength: z.int(),
  tokens: z.number(),
  domains: z.array(domainCountsSchema),
  /** Tokens that both experts served, by layer [E, E], symmetric; and those in which they stood next to each other in rank. */
  pairs: z.array(numbers),
  adjacentPairs: z.array(numbers),
  /** First choice in one layer to first choice in another, [E, E]. `from` and `to` index `layers`. */
  flows: z.array(z.object({ from: z.int(), to: z.int(), counts: numbers })),
  /** By layer and expert, [histogramBins] of the gate. */
  gateHistogram: z.array(numbers),
  gateSum: z.array(numbers),
  /** Σ over tokens of the router's probability of every expert, chosen or not. */
  probabilitySum: z.array(numbers),
  /** By layer: entropy of the router's distribution over its maximum. */
  entropyHistogram: z.array(numbers),
  entropyMean: numbers,
  saturation: z.array(saturationSchema),
  /** By variant, kind and minimum count: means over token ids of the largest share that one expert has (Eq 8), by layer. */
  vocabulary: z.array(
    z.object({ variant: z.enum(['input', 'predicted', 'truth']), kind: z.enum(['topK', 'top1']), minimumCount: z.int(), ids: z.int(), byLayer: numbers, byExpert: z.array(z.array(z.number().nullable())) }),
  ),
})
export type RoutingCounters = z.infer<typeof routingCountersSchema>
export type VocabularyVariant = RoutingCounters['vocabulary'][number]['variant']
export type CountKind = RoutingCounters['vocabulary'][number]['kind']

/** Minimum counts that vocabulary specialization is computed for; 1 is the released script's, 10 its table's. */
export const minimumCounts = [1, 2, 5, 10, 20, 50, 100] as const

/** Tokens told of an expert for each minimum count; the list of a detail is those of all of them together. */
export const tokensTold = 15

const exampleSchema = z.object({ before: z.string(), token: z.string(), after: z.string(), weight: z.number(), domain: z.string() })
export type ExpertExample = z.infer<typeof exampleSchema>
/** A token of an expert: its text, how often it occurred, and the share of that in which the expert was first choice, and among the top k. */
const expertTokenSchema = z.object({ id: z.int(), text: z.string(), occurrences: z.number(), top1: z.number(), topK: z.number() })
export type ExpertToken = z.infer<typeof expertTokenSchema>
export const expertDetailSchema = z.object({
  layer: z.int(),
  expert: z.int(),
  tokens: z.object({ input: z.array(expertTokenSchema), predicted: z.array(expertTokenSchema), truth: z.array(expertTokenSchema) }),
  strongest: z.array(exampleSchema),
  sample: z.array(exampleSchema),
})
export type ExpertDetail = z.infer<typeof expertDetailSchema>

/** Loss of every domain without each expert, [layers × experts]. */
export const ablationSchema = z.object({
  format: z.literal('moe-workbench-ablation'),
  version: z.literal(1),
  model: z.string(),
  layers: z.array(z.int()),
  experts: z.int(),
  tokens: z.number(),
  domains: z.array(z.object({ name: z.string(), tokens: z.number(), loss: z.number(), increase: numbers, increaseError: numbers })),
})
export type Ablation = z.infer<typeof ablationSchema>

/** What to do to the router: experts that it must not choose, experts that get all the weight, another k. Layers are the model's. */
export const interventionSchema = z.object({
  off: z.array(z.object({ layer: z.int().min(0), expert: z.int().min(0) })).default([]),
  force: z.array(z.object({ layer: z.int().min(0), expert: z.int().min(0) })).default([]),
  topK: z.int().min(1).nullable().default(null),
})
export type Intervention = z.output<typeof interventionSchema>

/** A token of a routed text: with the loss of predicting it (null for the first), and by layer its experts, gates and entropy. */
export const routedTokenSchema = tokenSchema.omit({ probability: true }).extend({ loss: z.number().nullable(), entropy: numbers })
export const routedTextSchema = z.object({
  layers: z.array(z.int()),
  experts: z.int(),
  topK: z.int(),
  tokens: z.array(routedTokenSchema),
  loss: z.number().nullable(),
  /** What the model writes after the text; empty when nothing was asked for. */
  continuation: z.string(),
})
export type RoutedText = z.infer<typeof routedTextSchema>

const byId = z.object({ id: idSchema })

export const analysesContract = {
  list: oc.output(z.array(analysisSchema)),
  get: oc.input(byId).output(analysisSchema),
  /** Starts it, or gives the one that was asked the same (and was not stopped, and did not fail). */
  create: oc.input(z.object({ spec: analysisSpecSchema })).output(analysisSchema),
  stop: oc.input(byId).output(analysisSchema),
  remove: oc.input(byId).output(z.object({})),
  /** Every change of any analysis, from now on. */
  watch: oc.output(eventIterator(analysisSchema)),
  counters: oc.input(byId).output(routingCountersSchema),
  /** `layer` is the model's. */
  expert: oc.input(byId.extend({ layer: z.int().min(0), expert: z.int().min(0) })).output(expertDetailSchema),
  ablation: oc.input(byId).output(ablationSchema),
  /** Routes a text once, as it is and (when there is one) under an intervention. */
  route: oc
    .input(z.object({ checkpointId: idSchema, text: z.string().min(1).max(20_000), intervention: interventionSchema.nullable().default(null), continueTokens: z.int().min(0).max(200).default(0) }))
    .output(z.object({ plain: routedTextSchema, changed: routedTextSchema.nullable() })),
}
