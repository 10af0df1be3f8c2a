/**
 * The two kinds of failure. An AppError is something a user, a file or a machine can cause: it has a stable code,
 * parameters for the message, and a hint that says what to do next; the renderer words the code in the user's language.
 * Everything else that is thrown is a bug and crashes loudly with its stack.
 */

/** JSON-safe form of an AppError, as it crosses processes and sockets. */
export type ErrorData = { code: string; message: string; params: Record<string, string | number>; hint: string }

/** An expected failure. `code` is dotted and stable (`noun.what`); `params` name what was found and what was expected. */
export class AppError extends Error {
  override readonly name = 'AppError'
  readonly code: string
  readonly params: Record<string, string | number>
  readonly hint: string

  constructor(code: string, message: string, options: { params?: Record<string, string | number>; hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.params = options.params ?? {}
    this.hint = options.hint ?? ''
  }
}

/** The wire form of anything thrown. A bug keeps the code `internal` and its stack goes to the log, not to the wire. */
export function toErrorData(error: unknown): ErrorData {
  if (error instanceof AppError) {
    return { code: error.code, message: error.message, params: error.params, hint: error.hint }
  }
  const message = error instanceof Error ? error.message : String(error)
  return { code: 'internal', message, params: {}, hint: 'This is a bug. The log has the details.' }
}

/** The AppError that `data` describes (the inverse of toErrorData). */
export function fromErrorData(data: ErrorData): AppError {
  return new AppError(data.code, data.message, { params: data.params, hint: data.hint })
}
