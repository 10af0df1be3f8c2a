/**
 * Sources: files of one domain under one licence, and how their rows become documents. A source is a description; its texts stay
 * where they are and are read when a mix is built. What is guessed (format, fields) is shown and can be given instead. The library
 * keeps sources so that several mixes can be made of them; what was uploaded or downloaded lies in the library and goes with its source.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { binarySchema, errorDataSchema, idSchema } from './common.ts'
import { phaseSchema } from './runs.ts'

export const sourceFormats = ['text', 'code', 'jsonl', 'json', 'csv', 'parquet'] as const
export const sourceFormatSchema = z.enum(sourceFormats)
export type SourceFormat = z.infer<typeof sourceFormatSchema>

/** Fields of a row by their path ("text", "meta.stars"); files of plain text and code have none. */
export const mappingSchema = z.object({
  /** The text itself: a string, or a list of {role, content} turns. */
  text: z.string().min(1),
  /** Names the document; absent: file and row do. */
  id: z.string().min(1).nullable().default(null),
  /** Stars of the repository, for the code filter. */
  stars: z.string().min(1).nullable().default(null),
})
export type Mapping = z.infer<typeof mappingSchema>

const nameSchema = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'expected 1 to 64 letters, digits, "-" or "_"')
const licenceSchema = z.string().trim().min(1).max(200)

export const sourceSpecSchema = z.object({
  /** The domain in the mix; it names files. */
  name: nameSchema,
  licence: licenceSchema.default('unknown'),
  /** Files, folders and globs; relative ones start at the folder of the file that names them. */
  paths: z.array(z.string().min(1)).min(1),
  /** null: by each file's name. */
  format: sourceFormatSchema.nullable().default(null),
  /** null: found by looking at the first rows. */
  mapping: mappingSchema.nullable().default(null),
  /** Rows that may be unusable before reading fails; an explicit choice. */
  skipBadRows: z.int().min(0).default(0),
})
export type SourceSpec = z.infer<typeof sourceSpecSchema>

export const fieldSchema = z.object({
  path: z.string(),
  /** JSON types that were seen, most frequent first. */
  types: z.array(z.string()),
  /** Share of the sampled rows that have it. */
  present: z.number(),
  /** Mean characters where it is a string. */
  meanLength: z.number().nullable(),
  example: z.string(),
})
export type Field = z.infer<typeof fieldSchema>

export const badRowSchema = z.object({
  file: z.string(),
  row: z.int(),
  field: z.string().nullable(),
  message: z.string(),
  found: z.string().default(''),
  expected: z.string().default(''),
})

/** What a look at a source found. Counts and fingerprint are null after a quick look, which reads only the first rows. */
export const sourceReportSchema = z.object({
  name: z.string(),
  licence: z.string(),
  files: z.int(),
  sizeBytes: z.number(),
  /** Text that files of these sizes usually hold: a guess to go by until they are read. */
  expectedTextBytes: z.number().default(0),
  formats: z.array(sourceFormatSchema),
  /** Files of a folder that were not taken, with the reason. */
  leftOut: z.array(z.object({ file: z.string(), reason: z.string() })),
  mapping: mappingSchema.nullable(),
  fields: z.array(fieldSchema),
  documents: z.int().nullable(),
  textBytes: z.number().nullable(),
  /** sha256 over all ids and texts in order. */
  fingerprint: z.string().nullable(),
  /** The first of them; `badRowCount` is how many there are. */
  badRows: z.array(badRowSchema),
  badRowCount: z.int().default(0),
  examples: z.array(z.object({ id: z.string(), text: z.string() })),
})
export type SourceReport = z.infer<typeof sourceReportSchema>

/** What to fetch: the data files of a Hugging Face data set, or any addresses. */
export const downloadSchema = z
  .object({
    dataset: z.string().regex(/^[\w.-]+\/[\w.-]+$/, 'expected owner/name').nullable().default(null),
    revision: z.string().trim().min(1).max(200).default('main'),
    urls: z.array(z.url({ protocol: /^https?$/ })).max(10_000).default([]),
  })
  .refine(({ dataset, urls }) => (dataset === null) === urls.length > 0, { path: ['dataset'], message: 'expected a data set or addresses, not both' })
export type DownloadRequest = z.infer<typeof downloadSchema>

/** Where a source's files come from; those of `upload` and `download` lie in the library. */
export const originSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('files') }),
  z.object({ kind: z.literal('sample') }),
  z.object({ kind: z.literal('upload'), uploadId: idSchema }),
  z.object({ kind: z.literal('download'), request: downloadSchema }),
])
export type Origin = z.infer<typeof originSchema>

/** fetching: being downloaded. looking: being read through. stopped: a download to go on with. failed: see `error`. */
export const sourceStates = ['fetching', 'looking', 'ready', 'stopped', 'failed'] as const

export const sourceSchema = z.object({
  id: idSchema,
  spec: sourceSpecSchema,
  origin: originSchema,
  state: z.enum(sourceStates),
  phase: phaseSchema.nullable(),
  /** Of the last look; without counts until one has read everything. */
  report: sourceReportSchema.nullable(),
  error: errorDataSchema.nullable(),
  createdAt: z.number(),
})
export type LibrarySource = z.infer<typeof sourceSchema>

/** Whether the source has more bad rows than may be skipped: a build would end at the first one too many. */
export const hasTooManyBadRows = ({ spec, report }: Pick<LibrarySource, 'spec' | 'report'>): boolean => (report?.badRowCount ?? 0) > spec.skipBadRows

/** A name for a source of `path`: the last part of it, in the letters that names may have. */
export function sourceNameOf(path: string): string {
  const last = path.split(/[\\/]/).findLast((part) => part !== '') ?? ''
  const stem = last.replace(/(\.[A-Za-z0-9]{1,8}){1,2}$/, '').normalize('NFKD')
  return stem.replace(/[^A-Za-z0-9_-]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 56) || 'source'
}

export const sourceEventSchema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('source'), source: sourceSchema }),
  z.object({ type: z.literal('removed'), id: idSchema }),
])
export type SourceEvent = z.infer<typeof sourceEventSchema>

export const folderSchema = z.object({
  path: z.string(),
  parent: z.string().nullable(),
  entries: z.array(z.object({ name: z.string(), path: z.string(), isFolder: z.boolean(), sizeBytes: z.number() })),
  /** There are more entries than are listed. */
  isCut: z.boolean(),
})
export type Folder = z.infer<typeof folderSchema>

/** Where data sets come from. The token itself never leaves the core. */
export const hubSchema = z.object({ mirror: z.string(), hasToken: z.boolean() })
export type Hub = z.infer<typeof hubSchema>

const given = { name: nameSchema.optional(), licence: licenceSchema.optional() }
const changeSchema = z.object({ ...given, format: sourceFormatSchema.nullable().optional(), mapping: mappingSchema.nullable().optional(), skipBadRows: z.int().min(0).optional() })
export type SourceChange = z.infer<typeof changeSchema>
const one = z.object({ id: idSchema })

export const sourcesContract = {
  /** Oldest first. */
  list: oc.output(z.array(sourceSchema)),
  watch: oc.output(eventIterator(sourceEventSchema)),
  /** Takes files, folders and patterns of the machine that the core is on, and looks at them. Names are made unique. */
  add: oc.input(z.object({ ...given, paths: sourceSpecSchema.shape.paths })).output(sourceSchema),
  /** The built-in sample, one source per domain; fetched first where it is missing. */
  addSample: oc.output(z.array(sourceSchema)),
  download: oc.input(z.object({ ...given, request: downloadSchema })).output(sourceSchema),
  /** Changes how a source is read, and looks again where that matters. */
  update: oc.input(one.extend({ change: changeSchema })).output(sourceSchema),
  look: oc.input(one).output(sourceSchema),
  /** Goes on with a download that was stopped or failed. */
  resume: oc.input(one).output(sourceSchema),
  stop: oc.input(one).output(sourceSchema),
  /** Refused while a mix that is not built yet takes from it. */
  remove: oc.input(one).output(z.object({ freedBytes: z.number() })),
  /** Folders and readable files of the core's machine; null: the user's home. */
  browse: oc.input(z.object({ path: z.string().nullable().default(null) }).prefault({})).output(folderSchema),
  /** Files of a browser that knows no paths: begun, sent in pieces in order, and ended as a source. */
  beginUpload: oc.input(z.object({ sizeBytes: z.number().min(0) })).output(z.object({ uploadId: idSchema, pieceBytes: z.int() })),
  upload: oc.input(z.object({ uploadId: idSchema, file: z.string().min(1).max(1000), offset: z.int().min(0), data: binarySchema, isLast: z.boolean() })).output(z.object({})),
  endUpload: oc.input(z.object({ ...given, uploadId: idSchema })).output(sourceSchema),
  cancelUpload: oc.input(z.object({ uploadId: idSchema })).output(z.object({})),
  hub: oc.output(hubSchema),
  /** An empty token forgets it; absent: as it is. */
  setHub: oc.input(z.object({ mirror: z.union([z.literal(''), z.url({ protocol: /^https?$/ })]).optional(), token: z.string().trim().max(500).optional() })).output(hubSchema),
}
