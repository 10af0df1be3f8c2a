/**
 * Tasks that a checkpoint is measured by, and what came out. A task is a file of JSON lines: the first describes the task, every other is
 * one item. Choices are ranked by the model's probability of their text (cloze) or of their letter; texts give bits per byte and
 * perplexity by domain; answers to generate are compared as they are. OLMES (arXiv 2406.08446), OLMoE sections 4 and F.
 */
import { oc } from '@orpc/contract'
import { z } from 'zod'
import { errorDataSchema, idSchema } from './common.ts'

export const normalisations = ['none', 'character', 'pmi'] as const

export const taskHeaderSchema = z.object({
  task: idSchema,
  title: z.string().min(1).max(120),
  kind: z.enum(['choice', 'generate', 'text']),
  licence: z.string().optional(),
  /** How choices are asked: their text is ranked, or they are listed with letters and a letter is. */
  form: z.enum(['cloze', 'letter']).default('cloze'),
  /** What a choice's log-probability is divided by (its characters) or lessened by (its log-probability after `unconditional`: pmi). */
  normalisation: z.enum(normalisations).default('none'),
  /** Solved items before each: the first others of the file. */
  shots: z.int().min(0).max(20).default(0),
  question: z.string().default('Question: {question}\nAnswer:').describe('a template with {question}; with the form letter, {choices} is where the list goes'),
  unconditional: z.string().default('Answer:'),
  /** Generated text ends before any of these. */
  stop: z.array(z.string().min(1)).max(8).default(['\n']),
  maxTokens: z.int().min(1).max(512).default(24),
})
export type TaskHeader = z.infer<typeof taskHeaderSchema>

export const choiceItemSchema = z.object({ question: z.string(), choices: z.array(z.string().min(1)).min(2).max(26), answer: z.int().min(0) }).refine(({ answer, choices }) => answer < choices.length, { path: ['answer'], error: 'is not the index of a choice' })
export const generateItemSchema = z.object({ question: z.string(), answers: z.array(z.string()).min(1) })
export const textItemSchema = z.object({ text: z.string().min(1), domain: z.string().min(1).default('all') })
export type ChoiceItem = z.infer<typeof choiceItemSchema>
export type GenerateItem = z.infer<typeof generateItemSchema>
export type TextItem = z.infer<typeof textItemSchema>
export type Task =
  | { header: TaskHeader & { kind: 'choice' }; items: ChoiceItem[] }
  | { header: TaskHeader & { kind: 'generate' }; items: GenerateItem[] }
  | { header: TaskHeader & { kind: 'text' }; items: TextItem[] }

/** A mean and its standard error; null with fewer than two items. */
const measureSchema = z.object({ value: z.number(), standardError: z.number().nullable() })
export type Measure = z.infer<typeof measureSchema>

/** `margin`: by how much (nats, as normalised) the right choice led, or the bits per byte of a text, negated: larger is better. */
export const exampleSchema = z.object({ question: z.string(), expected: z.string(), given: z.string(), correct: z.boolean(), margin: z.number() })
export type Example = z.infer<typeof exampleSchema>

export const taskResultSchema = z.object({
  task: idSchema,
  title: z.string(),
  kind: z.enum(['choice', 'generate', 'text']),
  form: z.enum(['cloze', 'letter']),
  normalisation: z.enum(normalisations),
  shots: z.int(),
  items: z.int(),
  /** accuracy (with what guessing would reach), exactMatch, bitsPerByte, perplexity: what the task's kind has. */
  metrics: z.record(z.string(), measureSchema),
  guessing: z.number().nullable(),
  /** Accuracy under each way to normalise that was computed. */
  byNormalisation: z.record(z.string(), measureSchema),
  domains: z.array(z.object({ name: z.string(), documents: z.int(), bytes: z.int(), bitsPerByte: measureSchema, perplexity: measureSchema })),
  best: z.array(exampleSchema),
  worst: z.array(exampleSchema),
})
export type TaskResult = z.infer<typeof taskResultSchema>

export const evaluationSchema = z.object({
  id: idSchema,
  checkpointId: idSchema,
  runId: idSchema,
  runName: z.string(),
  step: z.int(),
  /** Training FLOPs up to the checkpoint. */
  flops: z.number(),
  createdAt: z.number(),
  status: z.enum(['running', 'done', 'failed', 'stopped']),
  tasks: z.array(z.string()),
  results: z.array(taskResultSchema),
  /** Items done and to do while it runs. */
  progress: z.object({ done: z.int(), total: z.int() }).nullable(),
  error: errorDataSchema.nullable(),
})
export type Evaluation = z.infer<typeof evaluationSchema>

export const taskSummarySchema = taskHeaderSchema.extend({ items: z.int() })

export const evaluationsContract = {
  /** The tasks that came with the workbench and those in the library's folder `tasks`. */
  tasks: oc.output(z.array(taskSummarySchema)),
  /** Newest first. */
  list: oc.output(z.array(evaluationSchema)),
  start: oc.input(z.object({ checkpointId: idSchema, tasks: z.array(idSchema).min(1), limit: z.int().min(1).nullable().default(null) })).output(evaluationSchema),
  stop: oc.input(z.object({ id: idSchema })).output(z.object({})),
  remove: oc.input(z.object({ id: idSchema })).output(z.object({})),
}
