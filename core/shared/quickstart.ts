/**
 * The quick start: sample mix, tokenizer, a small pretrain, then SFT and DPO on the built-in sets, so that it ends in a model that answers.
 * One at a time. Its steps are ordinary ones (a mix build job, then three runs), so an interrupted one is resumed as a run.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { errorDataSchema, idSchema } from './common.ts'
import { phaseSchema } from './runs.ts'

export const quickstartPhases = ['sample', 'tokenizer', 'mix', 'train', 'sft', 'dpo'] as const

/** Its runs, in order; each but the first begins at the last checkpoint of the one before. */
export const quickstartStages = ['base', 'sft', 'dpo'] as const
export type QuickstartStage = (typeof quickstartStages)[number]

export const quickstartStateSchema = z.object({
  status: z.enum(['idle', 'running', 'done', 'failed', 'stopped']),
  /** The phase under way (one of quickstartPhases) with its own progress. */
  phase: phaseSchema.nullable(),
  /** The run under way, else the last one. */
  runId: idSchema.nullable(),
  /** The last checkpoint of the last stage that has one. */
  checkpointId: idSchema.nullable(),
  /** The runs that have begun, with their last checkpoints. */
  stages: z.array(z.object({ stage: z.enum(quickstartStages), runId: idSchema, checkpointId: idSchema.nullable() })),
  /** Whole quick start. */
  etaSeconds: z.number().nullable(),
  startedAt: z.number().nullable(),
  error: errorDataSchema.nullable(),
})
export type QuickstartState = z.infer<typeof quickstartStateSchema>

export const quickstartContract = {
  state: oc.output(quickstartStateSchema),
  /** Begins, goes on where it was stopped, or goes on to what is wanted beyond what is done. `until`: the last stage. */
  start: oc.input(z.object({ until: z.enum(['base', 'dpo']).default('dpo') }).optional()).output(quickstartStateSchema),
  stop: oc.output(quickstartStateSchema),
  watch: oc.output(eventIterator(quickstartStateSchema)),
}
