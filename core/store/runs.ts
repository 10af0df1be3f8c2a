/**
 * Runs and their logs as rows. What follows from other rows (last loss, sparkline, newest checkpoint) is looked up, not
 * stored twice: each is an index seek. What exists only while a runner works (ETA, phase) is not here at all.
 */
import { z } from 'zod'
import { errorDataSchema } from '#core/shared/common.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import { runConfigSchema, runDeviceSchema, type LogLine, type Run, type RunConfig, type RunDevice, type RunStatus } from '#core/shared/runs.ts'
import { prepare, readJson, type ReadableStore, type WritableStore } from './open.ts'
import { countOpenAlerts } from './run-records.ts'

type RunRow = {
  number: number
  id: string
  name: string
  status: RunStatus
  config: string
  mix_id: string | null
  created_at: number
  started_at: number | null
  ended_at: number | null
  step: number
  tokens: number
  seconds: number
  heartbeat_at: number | null
  error: string | null
  running_on: string | null
  queued_at: number
  note: string
  tags: string
  archived_at: number | null
  experiment_id: string | null
  arm: string | null
}

const tagsSchema = z.array(z.string())
const sparklinePoints = 60
const resumable: readonly RunStatus[] = ['stopped', 'failed', 'interrupted']

/** The row number of a run, which keys its series; null when there is no such run. */
export function runNumber(store: ReadableStore, id: string): number | null {
  const row = prepare(store, 'SELECT number FROM runs WHERE id = ?').get(id) as { number: number } | undefined
  return row?.number ?? null
}

/** All runs, newest first. */
export function listRuns(store: ReadableStore): Run[] {
  const rows = prepare(store, 'SELECT * FROM runs ORDER BY created_at DESC, number DESC').all() as RunRow[]
  return rows.map((row) => toRun(store, row))
}

/** One run, or null. */
export function findRun(store: ReadableStore, id: string): Run | null {
  const row = prepare(store, 'SELECT * FROM runs WHERE id = ?').get(id) as RunRow | undefined
  return row === undefined ? null : toRun(store, row)
}

/** The ids of the runs in one of `statuses`, the one queued first first. */
export function runsInStatus(store: ReadableStore, ...statuses: RunStatus[]): string[] {
  const marks = statuses.map(() => '?').join(', ')
  const rows = prepare(store, `SELECT id FROM runs WHERE status IN (${marks}) ORDER BY queued_at, number`).all(...statuses)
  return (rows as { id: string }[]).map(({ id }) => id)
}

/** The runs of an experiment, in the order they were queued. */
export function runsOfExperiment(store: ReadableStore, experimentId: string): Run[] {
  const rows = prepare(store, 'SELECT * FROM runs WHERE experiment_id = ? ORDER BY queued_at, number').all(experimentId) as RunRow[]
  return rows.map((row) => toRun(store, row))
}

/** Runs that start from a checkpoint of run `id`. */
export function dependantsOf(store: ReadableStore, id: string): { id: string; name: string; checkpointId: string }[] {
  return prepare(
    store,
    `SELECT r.id, r.name, json_extract(r.config, '$.startFrom.checkpointId') AS checkpointId FROM runs r
     WHERE checkpointId IN (SELECT c.id FROM checkpoints c JOIN runs own ON own.number = c.run WHERE own.id = ?)
       AND r.id <> ? ORDER BY r.created_at`,
  ).all(id, id) as { id: string; name: string; checkpointId: string }[]
}

export type NewRun = { id: string; config: RunConfig; status: RunStatus; createdAt: number; mixId: string | null; queuedAt?: number; experiment?: { id: string; arm: string } | null }

export function insertRun(store: WritableStore, run: NewRun): void {
  prepare(
    store,
    `INSERT INTO runs (id, name, status, config, mix_id, created_at, queued_at, experiment_id, arm) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  ).run(
    run.id, run.config.name, run.status, JSON.stringify(run.config), run.mixId, run.createdAt, run.queuedAt ?? run.createdAt,
    run.experiment?.id ?? null, run.experiment?.arm ?? null,
  )
}

const columns = {
  name: 'name',
  status: 'status',
  mixId: 'mix_id',
  queuedAt: 'queued_at',
  startedAt: 'started_at',
  endedAt: 'ended_at',
  step: 'step',
  tokens: 'tokens',
  seconds: 'seconds',
  heartbeatAt: 'heartbeat_at',
  note: 'note',
  archivedAt: 'archived_at',
} as const
/** Fields that are stored as JSON. */
const jsonColumns = { config: 'config', error: 'error', runningOn: 'running_on', tags: 'tags' } as const
export type RunChange = {
  name?: string
  status?: RunStatus
  mixId?: string
  queuedAt?: number
  startedAt?: number
  endedAt?: number | null
  step?: number
  tokens?: number
  seconds?: number
  heartbeatAt?: number
  config?: RunConfig
  error?: ErrorData | null
  runningOn?: RunDevice
  note?: string
  tags?: string[]
  archivedAt?: number | null
}

/** Writes the given fields of a run and leaves the others. */
export function updateRun(store: WritableStore, id: string, change: RunChange): void {
  const assignments: string[] = []
  const values: unknown[] = []
  for (const [field, value] of Object.entries(change) as [keyof RunChange, unknown][]) {
    if (value === undefined) continue
    const isJson = field in jsonColumns
    assignments.push(`${isJson ? jsonColumns[field as keyof typeof jsonColumns] : columns[field as keyof typeof columns]} = ?`)
    values.push(isJson && value !== null ? JSON.stringify(value) : value)
  }
  if (assignments.length > 0) prepare(store, `UPDATE runs SET ${assignments.join(', ')} WHERE id = ?`).run(...values, id)
}

/** Deletes a run with its series, log and checkpoint rows (not their files). */
export function deleteRun(store: WritableStore, id: string): void {
  prepare(store, 'DELETE FROM runs WHERE id = ?').run(id)
}

export function insertLogLine(store: WritableStore, runId: string, line: LogLine): void {
  prepare(store, 'INSERT INTO run_log (run, at, level, text) SELECT number, ?, ?, ? FROM runs WHERE id = ?').run(line.at, line.level, line.text, runId)
}

/** The log of a run, oldest line first. */
export function readLog(store: ReadableStore, run: number): LogLine[] {
  return prepare(store, 'SELECT at, level, text FROM run_log WHERE run = ? ORDER BY id').all(run) as LogLine[]
}

function toRun(store: ReadableStore, row: RunRow): Run {
  return {
    id: row.id,
    name: row.name,
    status: row.status,
    config: readJson<RunConfig>(runConfigSchema, row.config, `runs.config of ${row.id}`),
    mixId: row.mix_id,
    createdAt: row.created_at,
    startedAt: row.started_at,
    endedAt: row.ended_at,
    step: row.step,
    tokens: row.tokens,
    seconds: row.seconds,
    lastLoss: valueAt(store, row.number, 'loss', row.step),
    tokensPerSecond: valueAt(store, row.number, 'tokensPerSecond', row.step),
    etaSeconds: null,
    heartbeatAt: row.heartbeat_at,
    sparkline: sparkline(store, row),
    resumableStep: resumableStep(store, row),
    runningOn: row.running_on === null ? null : readJson<RunDevice>(runDeviceSchema, row.running_on, `runs.running_on of ${row.id}`),
    error: row.error === null ? null : readJson<ErrorData>(errorDataSchema, row.error, `runs.error of ${row.id}`),
    note: row.note,
    tags: readJson<string[]>(tagsSchema, row.tags, `runs.tags of ${row.id}`),
    archivedAt: row.archived_at,
    experimentId: row.experiment_id,
    arm: row.arm,
    queuedAt: row.queued_at,
    openAlerts: countOpenAlerts(store, row.number),
  }
}

/** Exported for the test of its query plan: the newest value of a series at or before a step. */
export const valueAtSql =
  'SELECT value FROM metrics WHERE run = ? AND key = (SELECT id FROM metric_keys WHERE key = ?) AND step <= ? ORDER BY step DESC LIMIT 1'

function valueAt(store: ReadableStore, run: number, key: string, step: number): number | null {
  const row = prepare(store, valueAtSql).get(run, key, step) as { value: number } | undefined
  return row?.value ?? null
}

/** Losses at evenly spaced steps: a seek each, so its cost does not grow with the run. */
function sparkline(store: ReadableStore, row: RunRow): number[] {
  const count = Math.min(sparklinePoints, row.step)
  const losses: number[] = []
  for (let i = 1; i <= count; i++) {
    const loss = valueAt(store, row.number, 'loss', Math.round((i * row.step) / count))
    if (loss !== null) losses.push(loss)
  }
  return losses
}

function resumableStep(store: ReadableStore, row: RunRow): number | null {
  if (row.status === 'done') return null
  const newest = prepare(store, 'SELECT max(step) AS step FROM checkpoints WHERE run = ? AND valid = 1').get(row.number) as { step: number | null }
  return newest.step ?? (resumable.includes(row.status) ? 0 : null)
}
