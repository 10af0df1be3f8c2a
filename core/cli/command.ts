/**
 * What a command of the CLI is, and what it gets. Results go to stdout (one JSON value under --json, else words); progress and
 * warnings go to stderr. A command throws AppError for what went wrong and UsageError for wrong use.
 */
import { readFileSync } from 'node:fs'
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'
import type { z } from 'zod'
import { AppError } from '#core/shared/errors.ts'

/** Wrong use: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export type Context = {
  json: boolean
  /** Folder given by --library or MOE_LIBRARY, else the user's data folder. */
  library: string
  /** One line of progress on stderr, replacing the last one on a terminal. */
  progress(text: string): void
  /** A line on stderr that stays. */
  note(text: string): void
}

export type Command = {
  /** Words of the command, e.g. "bench train". */
  name: string
  summary: string
  /** Arguments after the name, as in a usage line. */
  usage: string
  options: ParseArgsOptionsConfig
  /** One line per option of `options`, in that order. */
  help: Record<string, string>
  /** Runs and returns what --json prints; `words` makes the same readable. */
  run(input: { values: Record<string, string | boolean | undefined>; positionals: string[] }, context: Context): Promise<unknown>
  words(result: never): string
}

export const commonOptions: ParseArgsOptionsConfig = {
  json: { type: 'boolean' },
  library: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
}

/** Parses a command's arguments; unknown options and missing values are wrong use. */
export function parseCommand(command: Command, argv: string[]): { values: Record<string, string | boolean | undefined>; positionals: string[] } {
  try {
    const { values, positionals } = parseArgs({ args: argv, options: { ...commonOptions, ...command.options }, allowPositionals: true })
    return { values: values as Record<string, string | boolean | undefined>, positionals }
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

/** A number option, or `fallback`. */
export function numberOption(values: Record<string, unknown>, name: string, fallback: number, { min = -Infinity, integer = false } = {}): number {
  const text = values[name]
  if (text === undefined) return fallback
  const value = Number(text)
  if (typeof text !== 'string' || text.trim() === '' || !Number.isFinite(value) || value < min || (integer && !Number.isInteger(value))) {
    const expected = `${integer ? 'a whole number' : 'a number'}${min > -Infinity ? ` of at least ${min}` : ''}`
    throw new UsageError(`--${name} is "${String(text)}", expected ${expected}`)
  }
  return value
}

/** A required option. */
export function requiredOption(values: Record<string, unknown>, name: string): string {
  const value = values[name]
  if (typeof value !== 'string' || value === '') throw new UsageError(`--${name} is missing`)
  return value
}

/** Reads and checks a JSON file; what is wrong is named with its field. */
export function readJson<S extends z.ZodType>(path: string, schema: S): z.output<S> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new AppError('file.unreadable', `${path} cannot be read`, { params: { file: path }, hint: 'Check the path and its permissions.', cause: error })
  }
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new AppError('file.notJson', `${path} is not JSON: ${(error as Error).message}`, { params: { file: path }, hint: 'Open it in an editor and look at that place.', cause: error })
  }
  const parsed = schema.safeParse(json)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  const field = issue.path.join('.') || '(the whole file)'
  throw new AppError('file.invalid', `${path}: ${field}: ${issue.message}`, { params: { file: path, field }, hint: 'Correct that field.', cause: parsed.error })
}
