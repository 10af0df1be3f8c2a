/**
 * The quick start: sample mix, tokenizer, a small pretrain, in about three minutes on two cores; then chat and experts.
 * One at a time. Its steps are ordinary ones (a mix build job, then a run), so an interrupted one is resumed as a run.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { errorDataSchema, idSchema } from './common.ts'
import { phaseSchema } from './runs.ts'

export const quickstartPhases = ['sample', 'tokenizer', 'mix', 'train'] as const

export const quickstartStateSchema = z.object({
  status: z.enum(['idle', 'running', 'done', 'failed', 'stopped']),
  /** The phase under way (one of quickstartPhases) with its own progress. */
  phase: phaseSchema.nullable(),
  runId: idSchema.nullable(),
  checkpointId: idSchema.nullable(),
  /** Whole quick start. */
  etaSeconds: z.number().nullable(),
  startedAt: z.number().nullable(),
  error: errorDataSchema.nullable(),
})
export type QuickstartState = z.infer<typeof quickstartStateSchema>

export const quickstartContract = {
  state: oc.output(quickstartStateSchema),
  start: oc.output(quickstartStateSchema),
  stop: oc.output(quickstartStateSchema),
  watch: oc.output(eventIterator(quickstartStateSchema)),
}
