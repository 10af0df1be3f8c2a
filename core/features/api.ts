/**
 * The contract, ready to be implemented: calls get the Services as context, and whatever they throw reaches the client
 * as an ORPCError whose `data` is an ErrorData. A refused input is worded here, once, with field, found and expected. A bug
 * keeps its message, and its stack goes to the host's log.
 */
import { implement, ORPCError, ValidationError } from '@orpc/server'
import { contract } from '#core/shared/contract.ts'
import { AppError, fromErrorData, toErrorData } from '#core/shared/errors.ts'
import { errorDataSchema } from '#core/shared/common.ts'
import type { Services } from './services.ts'

type Issue = { message: string; path?: readonly (PropertyKey | { key: PropertyKey })[] }

/** What a call may throw: any error in, the ORPCError for the wire out. Logs bugs. */
function toWireError(error: unknown, services: Services, call: string): unknown {
  const refused = refusedInput(error)
  const data = toErrorData(refused ?? error)
  if (refused === null && error instanceof ORPCError && error.code !== 'INTERNAL_SERVER_ERROR') return error
  if (data.code === 'internal') services.host.log('error', `${call}: ${describe(error)}`)
  return new ORPCError(data.code, { status: data.code === 'internal' ? 500 : 400, message: data.message, data, cause: error })
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause instanceof ValidationError ? `\n${JSON.stringify(error.cause.issues)}` : ''
  return `${error.stack ?? error.message}${cause}`
}

/** The AppError for an input that did not fit its schema; null for any other error. */
function refusedInput(error: unknown): AppError | null {
  if (!(error instanceof ORPCError) || error.code !== 'BAD_REQUEST' || !(error.cause instanceof ValidationError)) return null
  const { data } = error.cause
  const issues = error.cause.issues as readonly Issue[]
  const first = issues[0] ?? { message: 'unexpected input' }
  const keys = (first.path ?? []).map((part) => (typeof part === 'object' ? part.key : part))
  const field = keys.map(String).join('.') || 'input'
  const found = preview(keys.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | null | undefined)?.[key], data))
  const others = issues.length > 1 ? ` (and ${issues.length - 1} more)` : ''
  return new AppError('input.invalid', `${field}: ${first.message}, found ${found}${others}`, {
    params: { field, expected: first.message, found, count: issues.length },
    hint: 'Correct that field and try again.',
    cause: error,
  })
}

function preview(value: unknown): string {
  if (value === undefined) return 'nothing'
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 57)}…` : text
}

async function* withWireErrors(events: AsyncIterable<unknown>, services: Services, call: string): AsyncGenerator<unknown> {
  try {
    yield* events
  } catch (error) {
    throw toWireError(error, services, call)
  }
}

const isEvents = (output: unknown): output is AsyncIterable<unknown> => typeof output === 'object' && output !== null && Symbol.asyncIterator in output

/** Implement calls on this: `api.runs.get.handler(({ input, context }) => …)`. */
export const api = implement(contract)
  .$context<Services>()
  .use(async ({ next, path, context }) => {
    const call = path.join('.')
    try {
      const result = await next()
      if (!isEvents(result.output)) return result
      return { ...result, output: withWireErrors(result.output, context, call) }
    } catch (error) {
      throw toWireError(error, context, call)
    }
  })

/** What a client in the same process gets instead of a wire error: the AppError, or the bug itself with its stack. */
export function fromWireError(error: unknown): unknown {
  if (!(error instanceof ORPCError)) return error
  const data = errorDataSchema.safeParse(error.data)
  if (!data.success) return error
  return data.data.code === 'internal' && error.cause instanceof Error ? error.cause : fromErrorData(data.data)
}

/** An interceptor for calls in the same process: their errors, and those of their streams, are thrown as they were. */
export async function withOwnErrors<R>({ next }: { next(): Promise<R> }): Promise<R> {
  try {
    const output = await next()
    return isEvents(output) ? (rethrowing(output) as R) : output
  } catch (error) {
    throw fromWireError(error)
  }
}

async function* rethrowing(events: AsyncIterable<unknown>): AsyncGenerator<unknown> {
  try {
    yield* events
  } catch (error) {
    throw fromWireError(error)
  }
}
