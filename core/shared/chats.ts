/**
 * Chats: prompts and what a checkpoint made of them, token by token with its experts.
 * A base model continues text; the prompt of a turn is the whole chat so far, cut to the context from the left.
 */
import { eventIterator, oc } from '@orpc/contract'
import { z } from 'zod'
import { idSchema } from './common.ts'

export const samplingSchema = z.object({
  /** 0 is greedy. */
  temperature: z.number().min(0).max(5).default(0.8),
  topP: z.number().gt(0).max(1).default(0.95),
  maxTokens: z.int().min(1).max(4096).default(200),
  /** null draws a new seed; the seed used is in the reply. */
  seed: z.int().min(0).nullable().default(null),
})
export type Sampling = z.infer<typeof samplingSchema>

/** One generated token: its text (may be empty inside a multi-byte character), the probability it had, and per layer that has experts its own with gate weights, strongest first. */
export const tokenSchema = z.object({
  id: z.int(),
  text: z.string(),
  probability: z.number(),
  layers: z.array(z.object({ experts: z.array(z.int()), weights: z.array(z.number()) })),
})
export type Token = z.infer<typeof tokenSchema>

export const messageSchema = z.object({
  id: idSchema,
  role: z.enum(['user', 'model']),
  text: z.string(),
  tokens: z.array(tokenSchema),
  createdAt: z.number(),
  /** How a model message ended. */
  end: z.enum(['length', 'eos', 'stopped', 'failed']).nullable(),
  tokensPerSecond: z.number().nullable(),
  firstTokenMs: z.number().nullable(),
  seed: z.int().nullable(),
})
export type Message = z.infer<typeof messageSchema>

export const chatSchema = z.object({
  id: idSchema,
  checkpointId: idSchema,
  title: z.string(),
  createdAt: z.number(),
  messages: z.array(messageSchema),
})
export type Chat = z.infer<typeof chatSchema>

export const chatEventSchema = z.discriminatedUnion('type', [
  /** The new user message (absent on regenerate) and the empty model message that tokens go to. */
  z.object({ type: z.literal('start'), user: messageSchema.nullable(), reply: messageSchema }),
  z.object({ type: z.literal('tokens'), tokens: z.array(tokenSchema) }),
  z.object({ type: z.literal('end'), reply: messageSchema }),
])
export type ChatEvent = z.infer<typeof chatEventSchema>

export const chatsContract = {
  /** Newest first, without messages. */
  list: oc.output(z.array(chatSchema)),
  get: oc.input(z.object({ id: idSchema })).output(chatSchema),
  create: oc.input(z.object({ checkpointId: idSchema })).output(chatSchema),
  remove: oc.input(z.object({ id: idSchema })).output(z.object({})),
  /** Appends a user message and streams the reply. Leaving the stream stops it; what was made is kept. */
  send: oc.input(z.object({ chatId: idSchema, text: z.string().min(1), sampling: samplingSchema })).output(eventIterator(chatEventSchema)),
  /** Drops the last model message and makes another. */
  regenerate: oc.input(z.object({ chatId: idSchema, sampling: samplingSchema })).output(eventIterator(chatEventSchema)),
}
