/**
 * Adaptation: supervised fine-tuning (SFT), DPO (arXiv 2305.18290) and KTO (arXiv 2402.01306) of a checkpoint on conversations. Here are their
 * settings, as part of a run's recipe, and how rows of a file become conversations. What is guessed by looking at rows is shown with the
 * first batch, decoded with its loss, and can be given instead.
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { chatTemplateSchema } from './chat-templates.ts'
import { idSchema } from './common.ts'
import { fieldSchema } from './sources.ts'

export const adaptationStages = ['sft', 'dpo', 'kto'] as const
export type AdaptationStage = (typeof adaptationStages)[number]
export const isAdaptation = (stage: string): stage is AdaptationStage => (adaptationStages as readonly string[]).includes(stage)

/** Sets that came with the workbench; files are told from them by their path. */
export const builtInSets = ['instructions', 'preferences'] as const

const pathSchema = z.string().min(1)
const optionalPath = pathSchema.nullable().default(null)

/** Which fields of a row are what, by path. */
export const conversationMappingSchema = z.discriminatedUnion('kind', [
  /** A list of {role, content} or {from, value} turns. */
  z.object({ kind: z.literal('messages'), messages: pathSchema }),
  /** A text and its answer; `input` is more of the prompt. */
  z.object({ kind: z.literal('promptResponse'), system: optionalPath, prompt: pathSchema, input: optionalPath, response: pathSchema }),
  /** Two answers, as texts to `prompt` or as lists of turns, which may begin with the prompt themselves. */
  z.object({ kind: z.literal('pairs'), prompt: optionalPath, chosen: pathSchema, rejected: pathSchema }),
  /** One answer and whether it is wanted: true or false, 1 or 0. */
  z.object({ kind: z.literal('labelled'), prompt: pathSchema, response: pathSchema, label: pathSchema }),
])
export type ConversationMapping = z.output<typeof conversationMappingSchema>

export const adaptationSchema = z.object({
  data: z.array(z.string().min(1)).min(1).describe('files, folders and patterns, absolute; or "instructions" or "preferences", the built-in sets'),
  mapping: conversationMappingSchema.nullable().default(null).describe('null: found by looking at the first rows'),
  skipBadRows: z.int().min(0).default(0),
  template: z.union([z.string().regex(/^[A-Za-z0-9_-]{1,64}$/), chatTemplateSchema]).default('olmoe').describe('name of a template that came with the workbench, or one written out'),
  epochs: z.number().positive().max(1000).nullable().default(null).describe('passes over the data; the run then has as many steps as they take, whatever `steps` says'),
  heldOutShare: z.number().min(0).max(0.5).default(0.1).describe('share of the prompts, chosen by their hash, that is never trained on'),
  packing: z.boolean().default(false).describe('SFT: several conversations in one sequence'),
  reduce: z.enum(['mean', 'sum']).default('mean').describe("SFT: over the step's assistant tokens"),
  beta: z.number().positive().default(0.1).describe('DPO, KTO: how strongly the reference holds'),
  desirableWeight: z.number().min(0).default(1).describe('KTO'),
  undesirableWeight: z.number().min(0).default(1).describe('KTO'),
})
export type AdaptationConfig = z.output<typeof adaptationSchema>

/** A piece of a decoded sequence. */
export const maskedTextSchema = z.object({ text: z.string(), loss: z.boolean() })

export const adaptationPreviewSchema = z.object({
  mapping: conversationMappingSchema,
  fields: z.array(fieldSchema),
  /** The first conversations as the model will see them; of a pair the chosen and the rejected one. */
  instances: z.array(z.object({ sequences: z.array(z.array(maskedTextSchema)), tokens: z.array(z.int()), desirable: z.boolean().nullable() })),
  /** Longer than the sequence length, among those looked at. */
  tooLong: z.int(),
})
export type AdaptationPreview = z.infer<typeof adaptationPreviewSchema>

export const adaptationContract = {
  templates: oc.output(z.array(chatTemplateSchema)),
  /** The first rows as the run would see them, with the tokenizer of the checkpoint that it starts from. */
  preview: oc
    .input(z.object({ checkpointId: idSchema, stage: z.enum(adaptationStages), sequenceLength: z.int().min(8), adaptation: adaptationSchema }))
    .output(adaptationPreviewSchema),
}
