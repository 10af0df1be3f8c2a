/**
 * Sources: files of one domain under one licence, and how their rows become documents. A source is a description; its texts stay
 * where they are and are read when a mix is built. What is guessed (format, fields) is shown and can be given instead.
 */
import { z } from 'zod'

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

export const sourceSpecSchema = z.object({
  /** The domain in the mix; it names files. */
  name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'expected 1 to 64 letters, digits, "-" or "_"'),
  licence: z.string().trim().min(1).max(200).default('unknown'),
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

export const badRowSchema = z.object({ file: z.string(), row: z.int(), field: z.string().nullable(), message: z.string() })

/** What a look at a source found. Counts and fingerprint are null after a quick look, which reads only the first rows. */
export const sourceReportSchema = z.object({
  name: z.string(),
  licence: z.string(),
  files: z.int(),
  sizeBytes: z.number(),
  formats: z.array(sourceFormatSchema),
  /** Files of a folder that were not taken, with the reason. */
  leftOut: z.array(z.object({ file: z.string(), reason: z.string() })),
  mapping: mappingSchema.nullable(),
  fields: z.array(fieldSchema),
  documents: z.int().nullable(),
  textBytes: z.number().nullable(),
  /** sha256 over all ids and texts in order. */
  fingerprint: z.string().nullable(),
  badRows: z.array(badRowSchema),
  examples: z.array(z.object({ id: z.string(), text: z.string() })),
})
export type SourceReport = z.infer<typeof sourceReportSchema>
