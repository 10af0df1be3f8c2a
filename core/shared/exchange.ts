/**
 * In and out: models that were made elsewhere become checkpoints of the library, checkpoints become files that other programs read, or a
 * bundle of everything that made them. Each is a transfer: a job with its progress, which can be stopped. Transfers themselves are not
 * kept beyond the core's life; what they made is.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { errorDataSchema, idSchema } from './common.ts'
import { phaseSchema } from './runs.ts'

/** How an import is kept: as it came, or packed, which starts at once and needs less memory, but loses digits. */
export const importTypes = ['keep', 'bf16', 'q8', 'q4'] as const
export type ImportType = (typeof importTypes)[number]

export const exportFormats = ['hf', 'gguf', 'onnx', 'bundle'] as const
export type ExportFormat = (typeof exportFormats)[number]

/** owner/name of a model on a hub. */
export const repositoryPattern = /^[\w.-]+\/[\w.-]+$/

export const importRequestSchema = z.object({
  /** A folder, a .gguf file or a bundle of the core's machine, or a repository of the hub. */
  from: z.string().trim().min(1).max(4000),
  isRepository: z.boolean().default(false),
  revision: z.string().trim().min(1).max(200).default('main'),
  type: z.enum(importTypes).default('keep'),
  name: z.string().trim().min(1).max(120).optional(),
})
export type ImportRequest = z.output<typeof importRequestSchema>

export const exportOptionsSchema = z.object({
  /** gguf: how matrices are rounded. */
  type: z.enum(['bf16', 'q8', 'q4']).default('q8'),
  /** hf: the numbers' form. */
  dtype: z.enum(['bf16', 'f32']).default('bf16'),
  /** onnx: onnxruntime's operator for experts, or plain ones that every runtime has. */
  experts: z.enum(['operator', 'plain']).default('operator'),
  /** bundle: the optimizer's moments too. */
  optimizer: z.boolean().default(false),
  /** bundle: every checkpoint of the run, not this one alone. */
  allCheckpoints: z.boolean().default(false),
})
export type ExportOptions = z.output<typeof exportOptionsSchema>

export const exportRequestSchema = exportOptionsSchema.extend({
  checkpointId: idSchema,
  to: z.enum(exportFormats),
  /** The new folder (hf, onnx, bundle) or file (gguf) on the core's machine. */
  out: z.string().trim().min(1).max(4000),
})
export type ExportRequest = z.output<typeof exportRequestSchema>

const fileSchema = z.object({ sizeBytes: z.number(), sha256: z.string() })

/** What was written, read back and compared with the model it came from: natural-log probabilities of the same tokens. */
export const paritySchema = z.object({
  /** What computed the other side: onnxruntime, or our own engine on the written file. */
  engine: z.string(),
  tokens: z.int(),
  maxDifference: z.number(),
  meanDifference: z.number(),
})
export type Parity = z.output<typeof paritySchema>

export const exportResultSchema = z.object({ out: z.string(), files: z.record(z.string(), fileSchema), sizeBytes: z.number(), parity: paritySchema.nullable() })
export type ExportResult = z.output<typeof exportResultSchema>

export const importResultSchema = z.object({ runId: idSchema, checkpointId: idSchema, files: z.record(z.string(), fileSchema), sizeBytes: z.number() })
export type ImportResult = z.output<typeof importResultSchema>

const common = { id: idSchema, name: z.string(), state: z.enum(['running', 'done', 'stopped', 'failed']), phase: phaseSchema.nullable(), error: errorDataSchema.nullable(), createdAt: z.number() }
export const transferSchema = z.discriminatedUnion('kind', [
  z.object({ ...common, kind: z.literal('import'), request: importRequestSchema, result: importResultSchema.nullable() }),
  z.object({ ...common, kind: z.literal('export'), request: exportRequestSchema, result: exportResultSchema.nullable() }),
])
export type Transfer = z.output<typeof transferSchema>

const one = z.object({ id: idSchema })

export const exchangeContract = {
  /** Newest first. */
  list: oc.output(z.array(transferSchema)),
  watch: oc.output(eventIterator(transferSchema)),
  import: oc.input(importRequestSchema).output(transferSchema),
  export: oc.input(exportRequestSchema).output(transferSchema),
  /** Nothing half is left, but what was downloaded: the same import goes on from there. */
  stop: oc.input(one).output(transferSchema),
}
