/**
 * What can be wrong with a file of a source, as AppErrors that name the file, the row, the field, what was found and what was expected.
 * A bad row can be skipped where the user chose so; everything else ends the reading.
 */
import { AppError } from '#core/shared/errors.ts'

/** One row that cannot be used. Readers hand it on instead of throwing, so that whoever counts may skip it. */
export type BadRow = { field: string | null; found: string; expected: string }

const preview = (text: string): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 57)}…` : text)

/** Names a value for an error: its type, and a piece of it. */
export function describeValue(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (value === null) return 'null'
  if (typeof value === 'string') return preview(value)
  if (Array.isArray(value)) return `a list of ${value.length}`
  return typeof value === 'object' ? 'an object' : `${typeof value} ${String(value)}`
}

export function badRowError(file: string, row: number, { field, found, expected }: BadRow): AppError {
  const where = field === null ? '' : `, field "${field}"`
  return new AppError('source.badRow', `${file}, row ${row}${where}: found ${found}, expected ${expected}`, {
    params: { file, row, field: field ?? '', found, expected },
    hint: 'Correct that row, choose another field, or allow a number of bad rows to be skipped.',
  })
}

/** A file that cannot be read on at all: damage, another kind of file, too large a piece. */
export function fileError(code: 'source.damagedFile' | 'source.wrongFormat' | 'source.emptyFile' | 'source.tooLong' | 'source.changed', file: string, found: string, expected: string, hint: string, row: number | null = null): AppError {
  const where = row === null ? '' : `, row ${row}`
  return new AppError(code, `${file}${where}: found ${found}, expected ${expected}`, { params: { file, found, expected, ...(row !== null && { row }) }, hint })
}

/** What the file system or a decompressor threw, as an error about `file`; bugs stay what they are. */
export function asReadError(error: unknown, file: string): unknown {
  if (error instanceof AppError) return error
  const code = (error as NodeJS.ErrnoException | null)?.code
  if (code === undefined) return error
  if (/^(Z_|ERR_ZSTD|ZSTD_|ERR_ZLIB|ERR_BUFFER_TOO_LARGE|UNKNOWN_ERROR)/.test(code)) {
    return fileError('source.damagedFile', file, `a damaged or cut archive (${(error as Error).message})`, 'a whole .gz or .zst file', 'Download or pack it again; compare its size or checksum with the original.')
  }
  if (code === 'ENOENT') return fileError('source.changed', file, 'no such file', 'the file that was there a moment ago', 'It was moved or deleted. Bring it back, or take it out of the source.')
  return new AppError('file.unreadable', `${file} cannot be read: ${(error as Error).message}`, { params: { file }, hint: 'Check the path and its permissions.', cause: error })
}
