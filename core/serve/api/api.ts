/**
 * The OpenAI-compatible API: models, completions and chat completions on the library's checkpoints. Every request needs a key; bodies
 * and the number of requests under way are bounded; there are no CORS headers, so no page of another site can use it. Requests of one
 * model run together in its runner (core/runner/infer-job.ts); a client that leaves stops its own.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { stopped } from '#core/features/chats/inference.ts'
import type { Services } from '#core/features/services.ts'
import type { ApiCounts } from '#core/shared/api-server.ts'
import type { CompletionEnd, CompletionPart, ScoredToken } from '#core/shared/completions.ts'
import { findCheckpoint, listCheckpoints } from '#core/store/checkpoints.ts'
import { commonHeaders } from '../files.ts'
import { ApiError, errorBody, toApiError } from './errors.ts'
import type { Keys } from './keys.ts'
import { readChat, readCompletion, type Asked } from './requests.ts'
import { chatSpelling, completionSpelling, contentOf, finishOf, type Spelling } from './responses.ts'

export type Api = {
  /** Answers a request for a path under /v1; `isKey` is asked where no stored key fits. */
  answer(request: IncomingMessage, response: ServerResponse, isKey?: (secret: string) => boolean): Promise<void>
  counts(): ApiCounts
}

const largestBodyBytes = 4 << 20
const mostRequests = 256

export function createApi(services: Pick<Services, 'host' | 'store' | 'inference'>, keys: Pick<Keys, 'has'>): Api {
  const { host, store } = services
  const counts: ApiCounts = { requests: 0, failed: 0, underWay: 0, promptTokens: 0, completionTokens: 0, lastAt: null }

  const authorize = (request: IncomingMessage, isKey: (secret: string) => boolean): void => {
    const secret = /^Bearer ([\w.-]{1,200})$/i.exec(request.headers.authorization ?? '')?.[1]
    if (secret === undefined) throw new ApiError(401, 'Expected "Authorization: Bearer <key>".', { code: 'missing_api_key' })
    if (!keys.has(secret) && !isKey(secret)) throw new ApiError(401, 'This key is not one of this workbench.', { code: 'invalid_api_key' })
  }

  async function write(asked: Asked, spelling: Spelling, prefix: string, response: ServerResponse): Promise<void> {
    requireModel(services, asked.model)
    const left = new AbortController()
    response.once('close', () => left.abort())
    const made = asked.requests.map((one) => services.inference.generate(asked.model, one, left.signal))
    const head = { id: `${prefix}-${host.newId()}`, created: Math.floor(host.now() / 1000), model: asked.model, system_fingerprint: `moe-workbench-${host.version}` }
    const ends = asked.isStream ? await stream(response, asked, spelling, head, made) : await whole(response, asked, spelling, head, made, left.signal)
    counts.promptTokens += usageOf(ends, asked).prompt_tokens
    counts.completionTokens += usageOf(ends, asked).completion_tokens
  }

  async function route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? '/', 'http://own').pathname
    const call = `${request.method} ${path}`
    if (call === 'GET /v1/models') return json(response, 200, { object: 'list', data: listCheckpoints(store, null).filter(({ valid }) => valid).map(modelOf) })
    if (request.method === 'GET' && path.startsWith('/v1/models/')) return json(response, 200, modelOf(requireModel(services, decodeURIComponent(path.slice('/v1/models/'.length)))))
    if (call === 'POST /v1/completions') return write(readCompletion(await readJson(request)), completionSpelling, 'cmpl', response)
    if (call === 'POST /v1/chat/completions') return write(readChat(await readJson(request)), chatSpelling, 'chatcmpl', response)
    throw new ApiError(404, `There is no ${call}.`, { code: 'unknown_url' })
  }

  return {
    counts: () => ({ ...counts }),
    async answer(request, response, isKey = () => false) {
      try {
        authorize(request, isKey)
        if (counts.underWay >= mostRequests) throw new ApiError(429, `${mostRequests} requests are under way; try again later.`, { code: 'too_many_requests' })
        counts.requests++
        counts.underWay++
        counts.lastAt = host.now()
        try {
          await route(request, response)
        } finally {
          counts.underWay--
        }
      } catch (error) {
        counts.failed++
        const refusal = toApiError(error)
        if (refusal === null) host.log('error', `API: ${error instanceof Error ? error.stack : String(error)}`)
        refuse(response, refusal ?? new ApiError(500, 'The workbench failed. Its log has the details.', { code: 'internal' }))
      }
    },
  }
}

function requireModel({ store }: Pick<Services, 'store'>, id: string): NonNullable<ReturnType<typeof findCheckpoint>> {
  const checkpoint = findCheckpoint(store, id)
  if (checkpoint === null || !checkpoint.valid) throw new ApiError(404, `There is no model "${id}". GET /v1/models lists those there are.`, { param: 'model', code: 'model_not_found' })
  return checkpoint
}

const modelOf = ({ id, createdAt, runName, step, model }: ReturnType<typeof requireModel>): object => ({
  id, object: 'model', created: Math.floor(createdAt / 1000), owned_by: 'moe-workbench', name: `${runName}, step ${step}`, max_model_len: model.max_position_embeddings,
})

type Made = AsyncGenerator<CompletionPart, CompletionEnd>

/** A prompt counts once, however many texts follow it. */
function usageOf(ends: readonly CompletionEnd[], { n }: Asked): { prompt_tokens: number; completion_tokens: number; total_tokens: number } {
  const prompt = ends.filter((_, i) => i % n === 0).reduce((sum, { promptTokens }) => sum + promptTokens, 0)
  const completion = ends.reduce((sum, { tokens }) => sum + tokens, 0)
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion }
}

/** Reads each to its end; when one fails, the others are left. */
async function readAll(made: readonly Made[], onPart: (part: CompletionPart, index: number) => Promise<void> | void): Promise<CompletionEnd[]> {
  try {
    return await Promise.all(
      made.map(async (one, index) => {
        for (;;) {
          const { done, value } = await one.next()
          if (done === true) return value
          await onPart(value, index)
        }
      }),
    )
  } finally {
    await Promise.all(made.map((one) => one.return(stopped)))
  }
}

async function whole(response: ServerResponse, asked: Asked, spelling: Spelling, head: object, made: Made[], signal: AbortSignal): Promise<CompletionEnd[]> {
  const written = made.map(() => ({ text: '', tokens: [] as ScoredToken[] }))
  const ends = await readAll(made, (part, index) => {
    const { text, tokens } = contentOf(part)
    written[index]!.text += text
    written[index]!.tokens.push(...tokens)
  })
  if (signal.aborted) return ends
  const choices = written.map(({ text, tokens }, index) => spelling.choice(index, text, tokens, finishOf(ends[index]!), asked, { offset: 0 }))
  json(response, 200, { ...head, object: spelling.object, choices, usage: usageOf(ends, asked) })
  return ends
}

async function stream(response: ServerResponse, asked: Asked, spelling: Spelling, head: object, made: Made[]): Promise<CompletionEnd[]> {
  const places = made.map(() => ({ offset: 0 }))
  const begun = made.map(() => false)
  const send = async (data: object): Promise<void> => {
    // One that has gone drains no more, and its close has been told.
    if (response.destroyed) return
    if (!response.headersSent) response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8', 'Cache-Control': 'no-store', ...commonHeaders })
    // A client that reads slowly slows its own stream down, not the memory of the core up.
    if (!response.write(`data: ${JSON.stringify(data)}\n\n`)) await new Promise<void>((resolve) => response.once('drain', resolve).once('close', resolve))
  }
  const chunk = (choices: object[], usage?: object): object => ({ ...head, object: spelling.streamObject, choices, ...(asked.includeUsage && { usage: usage ?? null }) })
  const ends = await readAll(made, async (part, index) => {
    const { text, tokens } = contentOf(part)
    const isFirst = !begun[index]
    begun[index] = true
    await send(chunk([spelling.piece(index, text, tokens, null, asked, places[index]!, isFirst)]))
  })
  for (const [index, end] of ends.entries()) await send(chunk([spelling.piece(index, '', [], finishOf(end), asked, places[index]!, !begun[index])]))
  if (asked.includeUsage) await send(chunk([], usageOf(ends, asked)))
  response.end('data: [DONE]\n\n')
  return ends
}

function json(response: ServerResponse, status: number, body: object): void {
  const text = JSON.stringify(body)
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Cache-Control': 'no-store', 'Content-Length': Buffer.byteLength(text), ...commonHeaders })
  response.end(text)
}

/** Says no; within a stream that has begun, as its last event. */
function refuse(response: ServerResponse, error: ApiError): void {
  if (response.destroyed) return
  if (response.headersSent) return void response.end(`data: ${JSON.stringify(errorBody(error))}\n\n`)
  // What is left of a body that was refused is not read.
  if (error.status === 413) response.setHeader('Connection', 'close')
  if (error.status === 401) response.setHeader('WWW-Authenticate', 'Bearer')
  json(response, error.status, errorBody(error))
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  if (!/^application\/json\b/i.test(request.headers['content-type'] ?? '')) throw new ApiError(415, 'Expected Content-Type: application/json.', { code: 'unsupported_media_type' })
  const parts: Buffer[] = []
  let bytes = 0
  for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += part.length
    if (bytes > largestBodyBytes) throw new ApiError(413, `The body is larger than ${largestBodyBytes} bytes.`, { code: 'request_too_large' })
    parts.push(part)
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8')) as unknown
  } catch {
    throw new ApiError(400, 'The body is not JSON.', { code: 'invalid_json' })
  }
}
