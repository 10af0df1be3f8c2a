/** Evaluations as rows: what was asked of which checkpoint, and the results as they came. */
import { z } from 'zod'
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import { errorDataSchema } from '#core/shared/common.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import { taskResultSchema, type Evaluation, type TaskResult } from '#core/shared/evaluations.ts'
import { trainingFlopsPerToken } from '#core/shared/models.ts'
import { runConfigSchema } from '#core/shared/runs.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

type Row = { id: string; checkpoint_id: string; run_id: string; run_name: string; config: string; step: number; tokens: number; created_at: number; status: Evaluation['status']; tasks: string; results: string; error: string | null }

const select = 'SELECT e.*, r.id AS run_id, r.name AS run_name, r.config FROM evaluations e JOIN runs r ON r.number = e.run'

/** Newest first. */
export function listEvaluations(store: ReadableStore): Evaluation[] {
  return (prepare(store, `${select} ORDER BY e.created_at DESC`).all() as Row[]).map(toEvaluation)
}

export function findEvaluation(store: ReadableStore, id: string): Evaluation | null {
  const row = prepare(store, `${select} WHERE e.id = ?`).get(id) as Row | undefined
  return row === undefined ? null : toEvaluation(row)
}

export function insertEvaluation(store: WritableStore, { id, checkpoint, createdAt, tasks }: { id: string; checkpoint: Checkpoint; createdAt: number; tasks: string[] }): void {
  prepare(
    store,
    `INSERT INTO evaluations (id, run, checkpoint_id, step, tokens, created_at, status, tasks, results) VALUES (?, (SELECT number FROM runs WHERE id = ?), ?, ?, ?, ?, 'running', ?, '[]')`,
  ).run(id, checkpoint.runId, checkpoint.id, checkpoint.step, checkpoint.tokens, createdAt, JSON.stringify(tasks))
}

export function addResult(store: WritableStore, id: string, result: TaskResult): void {
  const before = findEvaluation(store, id)?.results ?? []
  prepare(store, 'UPDATE evaluations SET results = ? WHERE id = ?').run(JSON.stringify([...before, result]), id)
}

export function endEvaluation(store: WritableStore, id: string, status: Evaluation['status'], error: ErrorData | null): void {
  prepare(store, 'UPDATE evaluations SET status = ?, error = ? WHERE id = ?').run(status, error === null ? null : JSON.stringify(error), id)
}

/** Those whose core ended while they were made: what was measured stands. */
export function endOpenEvaluations(store: WritableStore): void {
  prepare(store, "UPDATE evaluations SET status = 'stopped' WHERE status = 'running'").run()
}

export function deleteEvaluation(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM evaluations WHERE id = ?').run(id)
}

function toEvaluation(row: Row): Evaluation {
  const where = `evaluations ${row.id}`
  const { model, sequenceLength } = runConfigSchema.parse(JSON.parse(row.config))
  return {
    id: row.id, checkpointId: row.checkpoint_id, runId: row.run_id, runName: row.run_name, step: row.step, flops: row.tokens * trainingFlopsPerToken(model, sequenceLength), createdAt: row.created_at,
    status: row.status, tasks: readJson<string[]>(z.array(z.string()), row.tasks, where), results: readJson<TaskResult[]>(z.array(taskResultSchema), row.results, where),
    progress: null, error: row.error === null ? null : readJson<ErrorData>(errorDataSchema, row.error, where),
  }
}
