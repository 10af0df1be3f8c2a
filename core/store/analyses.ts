/** Analyses as rows. Which one answers a question is found by its key; the phase of one under way is not stored. */
import { analysisSpecSchema, type Analysis, type AnalysisSpec } from '#core/shared/analyses.ts'
import { errorDataSchema } from '#core/shared/common.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

type AnalysisRow = { id: string; key: string; created_at: number; ended_at: number | null; status: Analysis['status']; spec: string; tokens: number | null; error: string | null }

const toAnalysis = (row: AnalysisRow): Analysis => ({
  id: row.id,
  spec: readJson<AnalysisSpec>(analysisSpecSchema, row.spec, `analyses.spec of ${row.id}`),
  status: row.status,
  createdAt: row.created_at,
  endedAt: row.ended_at,
  tokens: row.tokens,
  phase: null,
  error: row.error === null ? null : readJson<ErrorData>(errorDataSchema, row.error, `analyses.error of ${row.id}`),
})

/** All analyses, newest first. */
export function listAnalyses(store: ReadableStore): Analysis[] {
  return (prepare(store, 'SELECT * FROM analyses ORDER BY created_at DESC, rowid DESC').all() as AnalysisRow[]).map(toAnalysis)
}

export function findAnalysis(store: ReadableStore, id: string): Analysis | null {
  const row = prepare(store, 'SELECT * FROM analyses WHERE id = ?').get(id) as AnalysisRow | undefined
  return row === undefined ? null : toAnalysis(row)
}

/** The newest analysis of this key that is done or under way. */
export function findAnalysisByKey(store: ReadableStore, key: string): Analysis | null {
  const row = prepare(store, "SELECT * FROM analyses WHERE key = ? AND status IN ('running', 'done') ORDER BY created_at DESC LIMIT 1").get(key) as AnalysisRow | undefined
  return row === undefined ? null : toAnalysis(row)
}

export function insertAnalysis(store: WritableStore, { id, createdAt, status, spec }: Analysis, key: string): void {
  prepare(store, 'INSERT INTO analyses (id, key, created_at, status, spec) VALUES (?, ?, ?, ?, ?)').run(id, key, createdAt, status, JSON.stringify(spec))
}

/** Writes what became of it. */
export function updateAnalysis(store: WritableStore, { id, status, endedAt, tokens, error }: Analysis): void {
  prepare(store, 'UPDATE analyses SET status = ?, ended_at = ?, tokens = ?, error = ? WHERE id = ?').run(status, endedAt, tokens, error === null ? null : JSON.stringify(error), id)
}

/** At a core's start: nothing is under way any more. */
export function endOpenAnalyses(store: WritableStore, endedAt: number): void {
  prepare(store, "UPDATE analyses SET status = 'stopped', ended_at = ? WHERE status = 'running'").run(endedAt)
}

export function deleteAnalysis(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM analyses WHERE id = ?').run(id)
}
