/**
 * Conversations as an adaptation would see them: what the rows of its files were taken for, and the first of them decoded, piece by piece
 * with and without loss, so that a wrong mapping or template is seen before anything is trained.
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { adaptationSchema, adaptationStages, conversationMappingSchema } from './adaptation.ts'
import { chatTemplateSchema } from './chat-templates.ts'
import { idSchema } from './common.ts'
import { fieldSchema } from './sources.ts'

/** Neighbouring tokens that all carry loss, or none. */
export const maskedTextSchema = z.object({ text: z.string(), loss: z.boolean() })

export const previewRequestSchema = z.object({ checkpointId: idSchema, stage: z.enum(adaptationStages), sequenceLength: z.int().min(8), adaptation: adaptationSchema })

export const conversationsPreviewSchema = z.object({
  mapping: conversationMappingSchema,
  fields: z.array(fieldSchema),
  /** The first instances: a conversation; of DPO the chosen and the rejected answer; of KTO an answer and a mismatched one. */
  instances: z.array(z.object({ sequences: z.array(z.array(maskedTextSchema)), tokens: z.array(z.int()), desirable: z.boolean() })),
  /** Those among them that are longer than the sequence length, and would be left out. */
  tooLong: z.int(),
})
export type ConversationsPreview = z.infer<typeof conversationsPreviewSchema>

export const conversationsContract = {
  /** The chat templates that came with the workbench. */
  templates: oc.output(z.array(chatTemplateSchema)),
  /** Reads the first rows with the tokenizer of the checkpoint that the run starts from. */
  preview: oc.input(previewRequestSchema).output(conversationsPreviewSchema),
}
