/**
 * Adaptation: supervised fine-tuning (SFT), DPO (arXiv 2305.18290) and KTO (arXiv 2402.01306) of a checkpoint on conversations. Here are their
 * settings, as part of a run's recipe. What is read by looking at rows (core/shared/conversations.ts shows it) can be given here instead.
 */
import { z } from 'zod'
import { chatTemplateSchema } from './chat-templates.ts'

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
  template: z.union([z.string().regex(/^[A-Za-z0-9_-]{1,64}$/), chatTemplateSchema]).nullable().default(null).describe('name of a template that came with the workbench, or one written out; null: the one that the checkpoint was saved with, else olmoe'),
  epochs: z.number().positive().max(1000).nullable().default(null).describe('passes over the data; the run then has as many steps as they take, whatever `steps` says'),
  warmupShare: z.number().min(0).max(1).nullable().default(null).describe('share of the steps that warm up; replaces the optimizer\'s warmupSteps when the run starts'),
  heldOutShare: z.number().min(0).max(0.5).default(0.1).describe('share of the prompts, chosen by their hash, that is never trained on'),
  packing: z.boolean().default(false).describe('SFT: several conversations in one sequence'),
  reduce: z.enum(['mean', 'sum']).default('mean').describe("SFT: over the step's assistant tokens"),
  beta: z.number().positive().default(0.1).describe('DPO, KTO: how strongly the reference holds'),
  desirableWeight: z.number().min(0).default(1).describe('KTO'),
  undesirableWeight: z.number().min(0).default(1).describe('KTO'),
})
export type AdaptationConfig = z.output<typeof adaptationSchema>
