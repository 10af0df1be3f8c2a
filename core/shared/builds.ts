/**
 * Builds: mixes on their way. A build begins as a draft, which is kept as it is edited; started, a runner makes the mix of it. What was
 * stopped, failed or cut off goes on from the last whole shard; a finished one names its mix.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { errorDataSchema, idSchema } from './common.ts'
import { comparedTaskSchema, droppedSchema, filterNameSchema } from './filters.ts'
import { mixSpecSchema, type MixSpec } from './mixes.ts'
import { phaseSchema } from './runs.ts'
import type { LibrarySource } from './sources.ts'
import { tokenizerIdSchema } from './tokenizers.ts'

const { name, vocabularySize, sampleBytes, filters, heldOut, maxEpochs, totalTokens } = mixSpecSchema.shape
/** A mix's settings over sources of the library; shares are by source id. */
export const mixDraftSchema = z.object({
  name,
  vocabularySize,
  sampleBytes,
  filters,
  heldOut,
  maxEpochs,
  totalTokens,
  sources: z.array(idSchema).max(200).default([]),
  /** null: one is trained on the sources. */
  tokenizer: tokenizerIdSchema.nullable().default(null),
  shares: z.record(idSchema, z.number().min(0)).nullable().default(null),
})
export type MixDraft = z.infer<typeof mixDraftSchema>

export const buildStatuses = ['draft', 'queued', 'running', 'done', 'stopped', 'interrupted', 'failed'] as const
export const buildStatusSchema = z.enum(buildStatuses)
export type BuildStatus = z.infer<typeof buildStatusSchema>

/** The phases of a build in their order. */
export const buildPhases = ['tokenizer', 'tokenize', 'deduplicate', 'decontaminate', 'write', 'verify'] as const

export const buildSchema = z.object({
  id: idSchema,
  draft: mixDraftSchema,
  status: buildStatusSchema,
  phase: phaseSchema.nullable(),
  mixId: idSchema.nullable(),
  error: errorDataSchema.nullable(),
  createdAt: z.number(),
  changedAt: z.number(),
})
export type Build = z.infer<typeof buildSchema>

/** Whether its settings may be changed: what is under way or built is not rewritten. */
export const isEditable = ({ status }: Pick<Build, 'status'>): boolean => !['queued', 'running', 'done'].includes(status)

export const buildEventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('build'), build: buildSchema }),
  z.object({ type: z.literal('removed'), id: idSchema }),
])
export type BuildEvent = z.infer<typeof buildEventSchema>

/** What the filters do to the first documents of each source, by the same code as a build. */
export const filterPreviewSchema = z.object({
  /** `sampled`: a small one trained on these documents stands in for the one that a build will train. */
  tokenizer: z.enum(['chosen', 'sampled']),
  sources: z.array(
    z.object({
      name: z.string(),
      documents: z.int(),
      /** These are all documents of the source. */
      isWhole: z.boolean(),
      tokens: z.number(),
      bytes: z.number(),
      keptTokens: z.number(),
      dropped: z.array(droppedSchema),
      shown: z.array(z.object({ id: z.string(), text: z.string(), tokens: z.int(), /** filter null: one of those that compare documents. */ dropped: z.object({ filter: filterNameSchema.nullable(), why: z.string() }).nullable() })),
    }),
  ),
  /** The tasks that these documents were held against. */
  comparedTasks: z.array(comparedTaskSchema),
  neededBytes: z.number(),
  freeBytes: z.number(),
})
export type FilterPreview = z.infer<typeof filterPreviewSchema>

/** The description of a mix that a draft over these sources makes. `tokenizerPath` is the file of the chosen one. */
export function specOfDraft(draft: MixDraft, sources: readonly LibrarySource[], tokenizerPath: string | null): MixSpec {
  const { sources: ids, shares, tokenizer: _, ...settings } = draft
  const chosen = ids.map((id) => sources.find((source) => source.id === id)).filter((source) => source !== undefined)
  return mixSpecSchema.parse({
    ...settings,
    sources: chosen.map(({ spec }) => spec),
    tokenizer: tokenizerPath,
    shares: shares && Object.fromEntries(chosen.map(({ id, spec }) => [spec.name, shares[id] ?? 0])),
  })
}

const one = z.object({ id: idSchema })

export const buildsContract = {
  /** Newest first. */
  list: oc.output(z.array(buildSchema)),
  watch: oc.output(eventIterator(buildEventSchema)),
  create: oc.input(z.object({ draft: mixDraftSchema })).output(buildSchema),
  update: oc.input(one.extend({ draft: mixDraftSchema })).output(buildSchema),
  /** What it made stays. */
  remove: oc.input(one).output(z.object({})),
  /** Builds, or goes on building; one at a time, others wait. */
  start: oc.input(one).output(buildSchema),
  stop: oc.input(one).output(buildSchema),
  /** Leaving the call ends it. */
  preview: oc.input(z.object({ draft: mixDraftSchema })).output(filterPreviewSchema),
}
