/** Experiments as rows; their runs name them, so that a run without its experiment is still a run. */
import { experimentSchema, type Experiment } from '#core/shared/experiments.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

type Row = { id: string; experiment: string }

const toExperiment = (row: Row): Experiment => readJson<Experiment>(experimentSchema, row.experiment, `experiments.experiment of ${row.id}`)

export function insertExperiment(store: WritableStore, experiment: Experiment): void {
  prepare(store, 'INSERT INTO experiments (id, created_at, experiment) VALUES (?, ?, ?)').run(experiment.id, experiment.createdAt, JSON.stringify(experiment))
}

/** Newest first, with how many of their runs are done. */
export function listExperiments(store: ReadableStore): (Experiment & { done: number; runs: number })[] {
  const rows = prepare(
    store,
    `SELECT e.id, e.experiment, count(r.number) AS runs, coalesce(sum(r.status = 'done'), 0) AS done
     FROM experiments e LEFT JOIN runs r ON r.experiment_id = e.id GROUP BY e.id ORDER BY e.created_at DESC`,
  ).all() as (Row & { runs: number; done: number })[]
  return rows.map((row) => ({ ...toExperiment(row), runs: row.runs, done: row.done }))
}

export function findExperiment(store: ReadableStore, id: string): Experiment | null {
  const row = prepare(store, 'SELECT id, experiment FROM experiments WHERE id = ?').get(id) as Row | undefined
  return row === undefined ? null : toExperiment(row)
}

/** Its runs stay, as runs of no experiment. */
export function deleteExperiment(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM experiments WHERE id = ?').run(id)
}
