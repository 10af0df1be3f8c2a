/**
 * Chats: prompts and what checkpoints made of them, token by token with their experts. Messages are a tree: an edited turn or another
 * answer is a branch beside the first. A column is a checkpoint that answers and the end of the branch it is at; two of them answer side by side.
 * A base model continues text; the prompt of a turn is its whole branch so far, cut to the context from the left.
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

/** One generated token: its text (may be empty inside a multi-byte character), the probability it had, and per layer its experts with gate weights, strongest first. */
export const tokenSchema = z.object({
  id: z.int(),
  text: z.string(),
  probability: z.number(),
  layers: z.array(z.object({ experts: z.array(z.int()), weights: z.array(z.number()) })),
})
export type Token = z.infer<typeof tokenSchema>

export const messageSchema = z.object({
  id: idSchema,
  /** The message that it follows; null at the beginning of a branch. */
  parentId: idSchema.nullable(),
  role: z.enum(['user', 'model']),
  /** Who wrote a model message. */
  checkpointId: idSchema.nullable(),
  text: z.string(),
  tokens: z.array(tokenSchema),
  createdAt: z.number(),
  /** How a model message ended. */
  end: z.enum(['length', 'eos', 'stopped', 'failed']).nullable(),
  tokensPerSecond: z.number().nullable(),
  firstTokenMs: z.number().nullable(),
  seed: z.int().nullable(),
  /** Tokens of the chat before it that the model's context had no room for. */
  cutTokens: z.int(),
  /** Its end is the context's, not the length asked for. */
  contextFull: z.boolean(),
})
export type Message = z.infer<typeof messageSchema>

/** A checkpoint that answers, and the message that its branch ends with (null: none yet). */
export const columnSchema = z.object({ checkpointId: idSchema, leafId: idSchema.nullable() })
export type Column = z.infer<typeof columnSchema>

export const chatSchema = z.object({
  id: idSchema,
  title: z.string(),
  createdAt: z.number(),
  /** When it was last written in. */
  updatedAt: z.number(),
  /** Goes before every branch where the model's template has a system turn. */
  systemPrompt: z.string(),
  /** How it was last answered; null before the first answer. */
  sampling: samplingSchema.nullable(),
  columns: z.array(columnSchema).min(1).max(2),
})
export type Chat = z.infer<typeof chatSchema>

/** A chat with every branch, in the order things were said. */
export const wholeChatSchema = chatSchema.extend({ messages: z.array(messageSchema) })
export type WholeChat = z.infer<typeof wholeChatSchema>

/** An entry of the list; `match` is where a search found it when not by its title. */
export const chatEntrySchema = chatSchema.extend({ match: z.object({ messageId: idSchema, excerpt: z.string() }).nullable() })
export type ChatEntry = z.infer<typeof chatEntrySchema>

export const chatEventSchema = z.discriminatedUnion('type', [
  /** The new user message (null where there is none) and the model message that tokens are added to. */
  z.object({ type: z.literal('start'), user: messageSchema.nullable(), reply: messageSchema }),
  z.object({ type: z.literal('tokens'), tokens: z.array(tokenSchema) }),
  z.object({ type: z.literal('end'), reply: messageSchema }),
])
export type ChatEvent = z.infer<typeof chatEventSchema>

const systemPromptSchema = z.string().max(20_000)
const columnIndex = z.int().min(0).max(1).default(0)
const chatEvents = eventIterator(chatEventSchema)

export const chatsContract = {
  /** Last written first. `query`: only those whose title or messages contain all its words. */
  list: oc.input(z.object({ query: z.string().max(200) }).optional()).output(z.array(chatEntrySchema)),
  get: oc.input(z.object({ id: idSchema })).output(wholeChatSchema),
  create: oc.input(z.object({ checkpointId: idSchema, besideId: idSchema.nullable().default(null), systemPrompt: systemPromptSchema.default('') })).output(wholeChatSchema),
  /** What is given changes. A second checkpoint starts on the first one's branch. */
  update: oc
    .input(z.object({ id: idSchema, title: z.string().trim().min(1).max(200).optional(), systemPrompt: systemPromptSchema.optional(), checkpointIds: z.array(idSchema).min(1).max(2).optional() }))
    .output(chatSchema),
  /** Leads a column through that message, to the newest end behind it. */
  select: oc.input(z.object({ id: idSchema, column: columnIndex, messageId: idSchema })).output(chatSchema),
  remove: oc.input(z.object({ id: idSchema })).output(z.object({})),
  /** What a chat with this checkpoint is rendered by; null: a base model, which continues text. */
  template: oc.input(z.object({ checkpointId: idSchema })).output(z.object({ name: z.string(), hasSystem: z.boolean() }).nullable()),
  /** Adds a user message behind the column's branch, or behind `parentId` (an edited turn: a branch), and streams the reply. Leaving the stream stops it; what was made is kept. */
  send: oc.input(z.object({ chatId: idSchema, column: columnIndex, parentId: idSchema.nullable().optional(), text: z.string().min(1), sampling: samplingSchema })).output(chatEvents),
  /** Another reply, beside those there are, to the column's last user message or to the one given. */
  regenerate: oc.input(z.object({ chatId: idSchema, column: columnIndex, messageId: idSchema.optional(), sampling: samplingSchema })).output(chatEvents),
  /** Goes on with the reply that the column's branch ends with. */
  goOn: oc.input(z.object({ chatId: idSchema, column: columnIndex, sampling: samplingSchema })).output(chatEvents),
}
