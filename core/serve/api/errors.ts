/**
 * What the API refuses, in OpenAI's shape, which clients turn into their own classes: {error: {message, type, param, code}}.
 * An AppError becomes a 400 with its code; a bug a 500 that says nothing of itself.
 */
import type { z } from 'zod'
import { AppError } from '#core/shared/errors.ts'

export class ApiError extends Error {
  override readonly name = 'ApiError'
  readonly status: number
  readonly code: string | null
  readonly param: string | null

  constructor(status: number, message: string, { code = null, param = null }: { code?: string | null; param?: string | null } = {}) {
    super(message)
    ;[this.status, this.code, this.param] = [status, code, param]
  }
}

const types: Record<number, string> = { 401: 'authentication_error', 404: 'not_found_error', 429: 'rate_limit_error', 500: 'server_error', 503: 'server_error' }

const codes: Record<string, { status: number; code: string }> = {
  'tokens.tooLong': { status: 400, code: 'context_length_exceeded' },
  'tokens.outOfRange': { status: 400, code: 'invalid_token_id' },
  'jobs.died': { status: 503, code: 'jobs.died' },
  'jobs.notStarted': { status: 503, code: 'jobs.notStarted' },
  'chats.interrupted': { status: 503, code: 'interrupted' },
}

/** The refusal for whatever was thrown; null for a bug. */
export function toApiError(error: unknown): ApiError | null {
  if (error instanceof ApiError) return error
  if (!(error instanceof AppError)) return null
  const { status, code } = codes[error.code] ?? { status: 400, code: error.code }
  return new ApiError(status, error.hint ? `${error.message}. ${error.hint}` : error.message, { code })
}

/** The body that says it. */
export const errorBody = ({ status, message, param, code }: ApiError): object => ({ error: { message, type: types[status] ?? 'invalid_request_error', param, code } })

/** Parses a body; the first field that is wrong is named. */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  const parsed = schema.safeParse(body)
  if (parsed.success) return parsed.data
  const { path, message } = parsed.error.issues[0]!
  const param = path.map(String).join('.') || null
  throw new ApiError(400, `${param === null ? 'the request' : param}: ${message}`, { param, code: 'invalid_value' })
}
