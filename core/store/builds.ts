/** Builds as rows: the draft of each, how far it came, and the mix that it made. */
import { mixDraftSchema, type Build, type BuildStatus, type MixDraft } from '#core/shared/builds.ts'
import { errorDataSchema } from '#core/shared/common.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

type BuildRow = { id: string; created_at: number; changed_at: number; status: BuildStatus; draft: string; mix_id: string | null; error: string | null }

function toBuild(row: BuildRow): Build {
  return {
    id: row.id,
    createdAt: row.created_at,
    changedAt: row.changed_at,
    status: row.status,
    phase: null,
    draft: readJson<MixDraft>(mixDraftSchema, row.draft, `builds.draft of ${row.id}`),
    mixId: row.mix_id,
    error: row.error === null ? null : readJson<ErrorData>(errorDataSchema, row.error, `builds.error of ${row.id}`),
  }
}

/** All builds, newest first. */
export function listBuilds(store: ReadableStore): Build[] {
  return (prepare(store, 'SELECT * FROM builds ORDER BY created_at DESC, rowid DESC').all() as BuildRow[]).map(toBuild)
}

export function findBuild(store: ReadableStore, id: string): Build | null {
  const row = prepare(store, 'SELECT * FROM builds WHERE id = ?').get(id) as BuildRow | undefined
  return row === undefined ? null : toBuild(row)
}

/** The builds in one of `statuses`, the one that came into it first first. */
export function buildsInStatus(store: ReadableStore, ...statuses: BuildStatus[]): Build[] {
  const marks = statuses.map(() => '?').join(', ')
  return (prepare(store, `SELECT * FROM builds WHERE status IN (${marks}) ORDER BY changed_at, rowid`).all(...statuses) as BuildRow[]).map(toBuild)
}

/** Writes a build, new or changed; its phase is not stored. */
export function putBuild(store: WritableStore, { id, createdAt, changedAt, status, draft, mixId, error }: Build): void {
  prepare(
    store,
    `INSERT INTO builds (id, created_at, changed_at, status, draft, mix_id, error) VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET changed_at = excluded.changed_at, status = excluded.status, draft = excluded.draft, mix_id = excluded.mix_id, error = excluded.error`,
  ).run(id, createdAt, changedAt, status, JSON.stringify(draft), mixId, error === null ? null : JSON.stringify(error))
}

export function deleteBuild(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM builds WHERE id = ?').run(id)
}
