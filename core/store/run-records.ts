/** What happened to a run beside its series: alerts, interventions, samples. Alerts and samples of steps that a rewind voids go with them, interventions stay. */
import { alertSchema, type Alert } from '#core/shared/alerts.ts'
import { interventionSchema, sampleSchema, type Intervention, type Sample } from '#core/shared/run-control.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'

export function insertAlert(store: WritableStore, run: number, alert: Alert): void {
  prepare(store, 'INSERT INTO alerts (id, run, step, at, alert) VALUES (?, ?, ?, ?, ?)').run(alert.id, run, alert.step, alert.at, JSON.stringify(alert))
}

/** The alerts of a run, newest first. */
export function listAlerts(store: ReadableStore, run: number): Alert[] {
  const rows = prepare(store, 'SELECT id, alert, dismissed_at FROM alerts WHERE run = ? ORDER BY step DESC, number DESC').all(run) as { id: string; alert: string; dismissed_at: number | null }[]
  return rows.map((row) => ({ ...readJson<Alert>(alertSchema, row.alert, `alerts.alert of ${row.id}`), dismissed: row.dismissed_at !== null }))
}

export function dismissAlert(store: WritableStore, run: number, id: string, at: number): void {
  prepare(store, 'UPDATE alerts SET dismissed_at = ? WHERE run = ? AND id = ?').run(at, run, id)
}

export function countOpenAlerts(store: ReadableStore, run: number): number {
  return (prepare(store, 'SELECT count(*) AS count FROM alerts WHERE run = ? AND dismissed_at IS NULL').get(run) as { count: number }).count
}

export function insertIntervention(store: WritableStore, run: number, intervention: Intervention): void {
  prepare(store, 'INSERT INTO interventions (run, step, at, intervention) VALUES (?, ?, ?, ?)').run(run, intervention.step, intervention.at, JSON.stringify(intervention))
}

/** In the order they were made. */
export function listInterventions(store: ReadableStore, run: number): Intervention[] {
  const rows = prepare(store, 'SELECT number, intervention FROM interventions WHERE run = ? ORDER BY number').all(run) as { number: number; intervention: string }[]
  return rows.map((row) => readJson<Intervention>(interventionSchema, row.intervention, `interventions.intervention ${row.number}`))
}

/** `prompt` is its place in the recipe; a checkpoint written again has its samples again. */
export function insertSample(store: WritableStore, run: number, prompt: number, sample: Sample): void {
  prepare(store, 'INSERT OR REPLACE INTO samples (run, step, prompt, sample) VALUES (?, ?, ?, ?)').run(run, sample.step, prompt, JSON.stringify(sample))
}

/** Newest step first, prompts in their order. */
export function listSamples(store: ReadableStore, run: number): Sample[] {
  const rows = prepare(store, 'SELECT sample FROM samples WHERE run = ? ORDER BY step DESC, prompt').all(run) as { sample: string }[]
  return rows.map(({ sample }) => readJson<Sample>(sampleSchema, sample, `samples of run ${run}`))
}

export function deleteRecordsAfter(store: WritableStore, run: number, step: number): void {
  prepare(store, 'DELETE FROM alerts WHERE run = ? AND step > ?').run(run, step)
  prepare(store, 'DELETE FROM samples WHERE run = ? AND step > ?').run(run, step)
}
