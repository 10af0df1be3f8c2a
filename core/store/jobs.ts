/**
 * Which runner processes were started for what. A row without an end belongs to a runner that is alive, or that
 * outlived or died with a core that was killed; its pid and the time that process started tell which.
 */
import { prepare, type ReadableStore, type WritableStore } from './open.ts'

export type JobRow = {
  id: string
  kind: string
  runId: string | null
  pid: number
  /** The system's start time of that process, where it tells (a pid alone may have been given to another since). */
  processStart: string | null
}

export function insertJob(store: WritableStore, job: JobRow & { startedAt: number }): void {
  prepare(
    store,
    `INSERT INTO jobs (id, kind, run, pid, process_start, started_at) VALUES (?, ?, (SELECT number FROM runs WHERE id = ?), ?, ?, ?)`,
  ).run(job.id, job.kind, job.runId, job.pid, job.processStart, job.startedAt)
}

export function endJob(store: WritableStore, id: string, endedAt: number, outcome: string): void {
  prepare(store, 'UPDATE jobs SET ended_at = ?, outcome = ? WHERE id = ?').run(endedAt, outcome, id)
}

/** Exported for the test of its query plan. */
export const jobsUnderWaySql = `SELECT j.id, j.kind, r.id AS runId, j.pid, j.process_start AS processStart
  FROM jobs j LEFT JOIN runs r ON r.number = j.run WHERE j.ended_at IS NULL ORDER BY j.started_at`

/** The jobs that no end was recorded of. */
export function jobsUnderWay(store: ReadableStore): JobRow[] {
  return prepare(store, jobsUnderWaySql).all() as JobRow[]
}
