/** What every reader gives: the rows of one file, good or bad, numbered from 1 as an editor numbers them (Parquet: by row). */
import type { BadRow } from './errors.ts'

export type Row = { row: number; value: unknown } | { row: number; bad: BadRow }

/** A row, a line or a file of text may be this long; what is longer is no document, and would not fit in memory at some point. */
export const longestRowBytes = 64 << 20

export const invalidUtf8: BadRow = { field: null, found: 'bytes that are not UTF-8', expected: 'UTF-8 text' }
