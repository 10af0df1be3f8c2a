/**
 * Checkpoints: a folder `checkpoints/<id>/` that is complete or absent, and its row.
 * Files: model.safetensors + config.json (a Hugging Face OLMoE folder), tokenizer.json, optimizer.safetensors, state.json
 * (step, tokens, loader position, the recipe, the step records since the checkpoint before), manifest.json (sha256 and size of each).
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { idSchema } from './common.ts'
import { modelConfigSchema } from './models.ts'
import { runConfigSchema, stepRecordSchema } from './runs.ts'

export const manifestSchema = z.object({
  format: z.literal('moe-workbench-checkpoint'),
  version: z.literal(1),
  id: idSchema,
  runId: idSchema,
  step: z.int(),
  tokens: z.number(),
  createdAt: z.number(),
  codeVersion: z.string(),
  /** Empty for an import, which saw no data here. */
  mixId: z.string(),
  mixHash: z.string(),
  /** Of an import: the name of the folder, file or repository, and the hash of the file that it was made of where that is not among `files`. */
  origin: z.object({ from: z.string(), files: z.record(z.string(), z.object({ sizeBytes: z.number(), sha256: z.string() })) }).optional(),
  /** The checkpoint that this one goes on from: the run's previous one, or where a later stage started. */
  parentId: idSchema.nullable(),
  validationLoss: z.number().nullable(),
  files: z.record(z.string(), z.object({ sizeBytes: z.number(), sha256: z.string() })),
})
export type CheckpointManifest = z.infer<typeof manifestSchema>

/** state.json: all that a resume needs beside the tensors. */
export const trainingStateSchema = z.object({
  step: z.int(),
  tokens: z.number(),
  /** Training seconds so far. */
  seconds: z.number(),
  /** Instances of the mix's global order that have been consumed. */
  loaderPosition: z.int(),
  /** Steps that the moments saw before the run's own first one: an earlier stage's, whose moments it took over. */
  earlierSteps: z.int().default(0),
  /** State of the run's random generator (nothing draws from it after initialisation yet). */
  rng: z.array(z.number()),
  config: runConfigSchema,
  /** Step records since the checkpoint before: whatever the core missed is here. */
  records: z.array(stepRecordSchema),
})
export type TrainingState = z.infer<typeof trainingStateSchema>

export const checkpointSchema = z.object({
  id: idSchema,
  runId: idSchema,
  runName: z.string(),
  step: z.int(),
  tokens: z.number(),
  createdAt: z.number(),
  sizeBytes: z.number(),
  validationLoss: z.number().nullable(),
  parentId: idSchema.nullable(),
  model: modelConfigSchema,
  /** False when its files were missing or did not match their hashes the last time they were read. */
  valid: z.boolean(),
})
export type Checkpoint = z.infer<typeof checkpointSchema>

export const checkpointsContract = {
  list: oc.input(z.object({ runId: idSchema.nullable() })).output(z.array(checkpointSchema)),
  get: oc.input(z.object({ id: idSchema })).output(checkpointSchema),
  /** Reads every file against its hash, and records what was found. */
  verify: oc.input(z.object({ id: idSchema })).output(checkpointSchema),
  remove: oc.input(z.object({ id: idSchema })).output(z.object({ freedBytes: z.number() })),
}
