/** Sources as rows: how each is read, where it came from, and what the last look at it found. */
import { errorDataSchema } from '#core/shared/common.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import { originSchema, sourceReportSchema, sourceSpecSchema, type LibrarySource, type Origin, type SourceReport, type SourceSpec } from '#core/shared/sources.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

type SourceRow = { id: string; created_at: number; state: LibrarySource['state']; spec: string; origin: string; report: string | null; error: string | null }

function toSource(row: SourceRow): LibrarySource {
  const where = (column: string): string => `sources.${column} of ${row.id}`
  return {
    id: row.id,
    createdAt: row.created_at,
    state: row.state,
    phase: null,
    spec: readJson<SourceSpec>(sourceSpecSchema, row.spec, where('spec')),
    origin: readJson<Origin>(originSchema, row.origin, where('origin')),
    report: row.report === null ? null : readJson<SourceReport>(sourceReportSchema, row.report, where('report')),
    error: row.error === null ? null : readJson<ErrorData>(errorDataSchema, row.error, where('error')),
  }
}

/** All sources, oldest first. */
export function listSources(store: ReadableStore): LibrarySource[] {
  return (prepare(store, 'SELECT * FROM sources ORDER BY created_at, rowid').all() as SourceRow[]).map(toSource)
}

export function findSource(store: ReadableStore, id: string): LibrarySource | null {
  const row = prepare(store, 'SELECT * FROM sources WHERE id = ?').get(id) as SourceRow | undefined
  return row === undefined ? null : toSource(row)
}

/** Writes a source, new or changed; its phase is not stored. */
export function putSource(store: WritableStore, { id, createdAt, state, spec, origin, report, error }: LibrarySource): void {
  const json = (value: unknown): string | null => (value === null ? null : JSON.stringify(value))
  prepare(
    store,
    `INSERT INTO sources (id, created_at, state, spec, origin, report, error) VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET state = excluded.state, spec = excluded.spec, origin = excluded.origin, report = excluded.report, error = excluded.error`,
  ).run(id, createdAt, state, JSON.stringify(spec), JSON.stringify(origin), json(report), json(error))
}

export function deleteSource(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM sources WHERE id = ?').run(id)
}
