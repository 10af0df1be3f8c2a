/**
 * Bodies of /v1/completions and /v1/chat/completions as requests to the model: OpenAI's names, defaults and limits. What would change
 * the answer and is not supported (penalties, tools, formats) is refused rather than passed over in silence; the rest is ignored.
 */
import { randomInt } from 'node:crypto'
import { z } from 'zod'
import type { CompletionRequest, Prompt } from '#core/shared/completions.ts'
import { ApiError, parseBody } from './errors.ts'

const mostChoices = 128
const seedLimit = 2 ** 31

const common = {
  model: z.string().min(1),
  temperature: z.number().min(0).max(5).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  seed: z.int().nullish(),
  stop: z.union([z.string(), z.array(z.string()).max(16)]).nullish(),
  n: z.int().min(1).max(mostChoices).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  return_routed_experts: z.boolean().nullish(),
  presence_penalty: z.literal(0, 'is not supported').nullish(),
  frequency_penalty: z.literal(0, 'is not supported').nullish(),
  logit_bias: z.record(z.string(), z.never('is not supported')).nullish(),
}
const idsSchema = z.array(z.int().min(0)).min(1)
export const completionSchema = z.object({
  ...common,
  prompt: z.union([z.string(), z.array(z.string()).min(1), idsSchema, z.array(idsSchema).min(1)], 'expected a text, a list of texts, token ids, or lists of token ids'),
  max_tokens: z.int().min(0).nullish(),
  echo: z.boolean().nullish(),
  logprobs: z.int().min(0).max(20).nullish(),
  suffix: z.literal('', 'is not supported').nullish(),
})
const contentSchema = z.union([z.string(), z.array(z.object({ type: z.literal('text'), text: z.string() }))], 'expected text')
export const chatSchema = z.object({
  ...common,
  messages: z.array(z.object({ role: z.enum(['system', 'developer', 'user', 'assistant']), content: contentSchema })).min(1),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  tools: z.array(z.never('are not supported')).nullish(),
  response_format: z.object({ type: z.literal('text', 'only text is supported') }).nullish(),
})

/** What is asked: a request per choice, in the order of their indices, `prompts` prompts with `n` choices each. */
export type Asked = { model: string; requests: CompletionRequest[]; n: number; isStream: boolean; includeUsage: boolean; logprobs: boolean; experts: boolean }

type Common = z.infer<z.ZodObject<typeof common>>

function ask(body: Common, prompts: Prompt[], one: Pick<CompletionRequest, 'maxTokens' | 'echo' | 'alternatives'>): Asked {
  const n = body.n ?? 1
  if (prompts.length * n > mostChoices) throw new ApiError(400, `prompts × n is ${prompts.length * n}, at most ${mostChoices} are written at once`, { param: 'n', code: 'invalid_value' })
  const topP = body.top_p ?? 1
  const first = body.seed ?? randomInt(seedLimit)
  const requests = prompts.flatMap((prompt) =>
    Array.from({ length: n }, (_, i): CompletionRequest => ({
      ...one, prompt,
      // Of a nucleus of nothing only the most probable token is left.
      temperature: topP === 0 ? 0 : (body.temperature ?? 1), topP: topP === 0 ? 1 : topP,
      seed: (Math.abs(first) + i) % seedLimit,
      stop: [body.stop ?? []].flat(), routing: body.return_routed_experts === true, cutToFit: false,
    })),
  )
  return { model: body.model, requests, n, isStream: body.stream === true, includeUsage: body.stream_options?.include_usage === true, logprobs: one.alternatives !== null, experts: body.return_routed_experts === true }
}

function promptsOf(prompt: z.infer<typeof completionSchema>['prompt']): Prompt[] {
  if (typeof prompt === 'string') return [{ kind: 'text', text: prompt }]
  if (typeof prompt[0] === 'number') return [{ kind: 'ids', ids: prompt as number[] }]
  return (prompt as (string | number[])[]).map((one) => (typeof one === 'string' ? { kind: 'text', text: one } : { kind: 'ids', ids: one }))
}

/** Reads the body of /v1/completions. Throws ApiError. */
export function readCompletion(json: unknown): Asked {
  const body = parseBody(completionSchema, json)
  const maxTokens = body.max_tokens ?? 16
  const isEcho = body.echo === true
  if (maxTokens === 0 && !isEcho) throw new ApiError(400, 'max_tokens: 0 asks for nothing without echo', { param: 'max_tokens', code: 'invalid_value' })
  const echo = !isEcho ? 'none' : typeof body.logprobs === 'number' || maxTokens === 0 ? 'scores' : 'text'
  return ask(body, promptsOf(body.prompt), { maxTokens, echo, alternatives: body.logprobs ?? null })
}

/** Reads the body of /v1/chat/completions. Throws ApiError. */
export function readChat(json: unknown): Asked {
  const body = parseBody(chatSchema, json)
  const turns = body.messages.map(({ role, content }) => ({
    role: role === 'developer' ? ('system' as const) : role,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
  }))
  return ask(body, [{ kind: 'turns', turns }], {
    maxTokens: body.max_completion_tokens ?? body.max_tokens ?? null, echo: 'none', alternatives: body.logprobs === true ? (body.top_logprobs ?? 0) : null,
  })
}
