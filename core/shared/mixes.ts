/**
 * Mixes: token files made from sources by one tokenizer, `mixes/<id>/`, complete or absent.
 * A mix's id is derived from what went in, so building the same thing twice finds it built.
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { idSchema } from './common.ts'
import { badRowSchema, sourceSpecSchema } from './sources.ts'
import { comparedTaskSchema, droppedSchema, filterSettingsSchema } from './filters.ts'

export const mixDomainSchema = z.object({
  name: z.string(),
  licence: z.string(),
  documents: z.int(),
  bytes: z.number(),
  /** As white space separates them; null where they were not counted. */
  words: z.int().nullable().default(null),
  trainTokens: z.int(),
  validationTokens: z.int(),
  /** Times that one pass over the mix sees the training text. */
  epochs: z.number().default(1),
})
export type MixDomain = z.infer<typeof mixDomainSchema>

export const mixSchema = z.object({
  id: z.string(),
  name: z.string(),
  /** sha256 over the manifest's file hashes: two mixes with one hash hold the same tokens in the same order. */
  hash: z.string(),
  createdAt: z.number(),
  vocabularySize: z.int(),
  tokenizerHash: z.string(),
  domains: z.array(mixDomainSchema),
  trainTokens: z.int(),
  validationTokens: z.int(),
  sizeBytes: z.number(),
})
export type Mix = z.infer<typeof mixSchema>

/** What a mix is made from. Relative paths start at the folder of the file that holds this. */
export const mixSpecSchema = z
  .object({
    name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'expected 1 to 64 letters, digits, "-" or "_"'),
    sources: z.array(sourceSpecSchema).min(1),
    /** A tokenizer.json; absent: one is trained on the sources. */
    tokenizer: z.string().min(1).nullable().default(null),
    vocabularySize: z.int().min(258).max(2 ** 21 - 1).default(16_384),
    /** Text of each source, about, that a tokenizer is trained on; null: an even cut through all of them. */
    sampleBytes: z.int().min(1000).nullable().default(null),
    filters: filterSettingsSchema.prefault({}),
    /** Held out of each source: this share of its bytes, and at least so many bytes (of a small source never more than a tenth). */
    heldOut: z.object({ fraction: z.number().min(0).max(0.5).default(0.02), floorBytes: z.int().min(0).default(64 * 1024) }).prefault({}),
    /** Share of each source by name; null: as much of each as there is. */
    shares: z.record(z.string(), z.number().min(0)).nullable().default(null),
    /** No source's text is seen more often than this in one pass over the mix. */
    maxEpochs: z.number().positive().default(4),
    /** Tokens of one pass; null: as many as the sources have. */
    totalTokens: z.int().positive().nullable().default(null),
  })
  .superRefine((mix, issues) => {
    const names = mix.sources.map(({ name }) => name)
    names.forEach((name, i) => names.indexOf(name) < i && issues.addIssue({ code: 'custom', path: ['sources', i, 'name'], message: `there are two sources named ${name}` }))
    for (const name of Object.keys(mix.shares ?? {})) if (!names.includes(name)) issues.addIssue({ code: 'custom', path: ['shares', name], message: 'there is no source of that name' })
    if (mix.shares !== null && Object.values(mix.shares).every((share) => share === 0)) issues.addIssue({ code: 'custom', path: ['shares'], message: 'at least one share must be above 0' })
  })
export type MixSpec = z.infer<typeof mixSpecSchema>

/** What became of one source: what the filters dropped, which rows were skipped, and its part of the mix. */
export const sourceOutcomeSchema = z.object({
  name: z.string(),
  documents: z.int(),
  tokens: z.number(),
  kept: z.int(),
  dropped: z.array(droppedSchema),
  badRows: z.array(badRowSchema),
  share: z.number(),
  epochs: z.number(),
  warning: z.enum(['none', 'capped', 'repeated']),
})
export type SourceOutcome = z.infer<typeof sourceOutcomeSchema>

export type MixDetails = z.infer<typeof mixDetailsSchema>
export const mixDetailsSchema = z.object({
  mix: mixSchema,
  /** By source, what the filters did; empty for mixes without filters. */
  outcomes: z.array(sourceOutcomeSchema),
  /** The tasks that its training texts were held against. */
  comparedTasks: z.array(comparedTaskSchema),
  /** Runs that were made, or are to be made, on it. */
  runs: z.array(z.object({ id: idSchema, name: z.string() })),
})

/** The first batches of a mix, decoded. */
export const batchPreviewSchema = z.object({
  /** Instances of one pass over the mix. */
  instances: z.int(),
  steps: z.array(z.object({ instances: z.array(z.object({ source: z.string(), instance: z.int(), text: z.string(), masked: z.boolean() })) })),
  /** Instances of the shown steps by source. */
  bySource: z.record(z.string(), z.int()),
})
export type BatchPreview = z.infer<typeof batchPreviewSchema>

export const mixesContract = {
  /** Newest first. */
  list: oc.output(z.array(mixSchema)),
  get: oc.input(z.object({ id: idSchema })).output(mixDetailsSchema),
  /** What a run of that seed and length sees first. */
  preview: oc
    .input(z.object({ id: idSchema, sequenceLength: z.int().min(8).max(8192).default(256), sequencesPerStep: z.int().min(1).max(64).default(8), steps: z.int().min(1).max(16).default(1), seed: z.int().min(0).default(6198) }))
    .output(batchPreviewSchema),
  /** Refused while a run depends on it. */
  remove: oc.input(z.object({ id: idSchema })).output(z.object({ freedBytes: z.number() })),
}
