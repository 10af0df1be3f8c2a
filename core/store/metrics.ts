/**
 * The series of runs: scalars by (run, key, step) and expert counts by (run, step). Writing a step twice leaves the later
 * values, so that records found again after a crash may simply be written again. Values that are not finite are never
 * stored: neither SQLite nor JSON can hold them (the supervisor says so in the run's log).
 */
import type { Series, StepRecord } from '#core/shared/runs.ts'
import { prepare, type ReadableStore, type WritableStore } from './open.ts'

const metricKeyId = new WeakMap<WritableStore, Map<string, number>>()

/** Writes step records. One transaction around many of them is the caller's. */
export function insertSteps(store: WritableStore, run: number, steps: readonly StepRecord[]): void {
  const insert = prepare(store, 'INSERT OR REPLACE INTO metrics (run, key, step, value) VALUES (?, ?, ?, ?)')
  const insertLoad = prepare(store, 'INSERT OR REPLACE INTO expert_loads (run, step, counts) VALUES (?, ?, ?)')
  for (const record of steps) {
    for (const [key, value] of Object.entries(record.scalars)) {
      if (Number.isFinite(value)) insert.run(run, keyId(store, key), record.step, value)
    }
    if (record.expertCounts !== null) insertLoad.run(run, record.step, Buffer.from(Uint32Array.from(record.expertCounts).buffer))
  }
}

/** Deletes everything after `step`: what a rewind does before a run goes on from there. */
export function deleteStepsAfter(store: WritableStore, run: number, step: number): void {
  for (const { key } of metricKeysOf(store, run)) prepare(store, 'DELETE FROM metrics WHERE run = ? AND key = ? AND step > ?').run(run, key, step)
  prepare(store, 'DELETE FROM expert_loads WHERE run = ? AND step > ?').run(run, step)
}

/** The keys that a run has values of, in the order they were first used anywhere. */
export function seriesKeys(store: ReadableStore, run: number): string[] {
  return metricKeysOf(store, run).map(({ name }) => name)
}

/** Exported for the test of its query plan. */
export const seriesSql = 'SELECT step, value FROM metrics WHERE run = ? AND key = (SELECT id FROM metric_keys WHERE key = ?) ORDER BY step'

/**
 * One series, thinned to at most `maxPoints` by splitting the steps into equal buckets and keeping the lowest and the
 * highest value of each, at their own steps: no spike is lost, whatever the zoom.
 */
export function readSeries(store: ReadableStore, run: number, key: string, maxPoints: number): Series {
  const bounds = prepare(
    store,
    `SELECT min(step) AS first, max(step) AS last, count(*) AS count FROM metrics
     WHERE run = ? AND key = (SELECT id FROM metric_keys WHERE key = ?)`,
  ).get(run, key) as { first: number | null; last: number | null; count: number }
  const rows = prepare(store, seriesSql).raw(true).iterate(run, key) as IterableIterator<[number, number]>
  const series: Series = { key, steps: [], values: [] }
  const push = ([step, value]: [number, number]): void => {
    series.steps.push(step)
    series.values.push(value)
  }
  if (bounds.count <= maxPoints || bounds.first === null || bounds.last === null) {
    for (const row of rows) push(row)
    return series
  }
  const buckets = Math.max(1, Math.floor(maxPoints / 2))
  thin(rows, bounds.first, (bounds.last - bounds.first + 1) / buckets, push)
  return series
}

function thin(rows: Iterable<[number, number]>, first: number, width: number, push: (row: [number, number]) => void): void {
  let bucket = -1
  let low: [number, number] = [0, 0]
  let high = low
  const flush = (): void => {
    if (bucket < 0) return
    const [earlier, later] = low[0] <= high[0] ? [low, high] : [high, low]
    push(earlier)
    if (later[0] !== earlier[0]) push(later)
  }
  for (const row of rows) {
    const own = Math.floor((row[0] - first) / width)
    if (own !== bucket) {
      flush()
      bucket = own
      low = high = row
    } else if (row[1] < low[1]) low = row
    else if (row[1] > high[1]) high = row
  }
  flush()
}

/**
 * Expert counts at up to `maxPoints` evenly chosen steps: the steps that have counts, and per step the counts
 * [layers × experts] as they were stored.
 */
export function readExpertCounts(store: ReadableStore, run: number, maxPoints: number): { step: number; counts: Uint32Array }[] {
  const steps = (prepare(store, 'SELECT step FROM expert_loads WHERE run = ? ORDER BY step').raw(true).all(run) as [number][]).map(([step]) => step)
  const wanted = steps.length <= maxPoints ? steps : pickEvenly(steps, maxPoints)
  const read = prepare(store, 'SELECT counts FROM expert_loads WHERE run = ? AND step = ?')
  return wanted.map((step) => {
    const { counts } = read.get(run, step) as { counts: Buffer }
    return { step, counts: new Uint32Array(Uint8Array.from(counts).buffer) }
  })
}

/** `count` of the values, spread evenly, the last one always among them. */
function pickEvenly(values: number[], count: number): number[] {
  if (count === 1) return values.slice(-1)
  return Array.from({ length: count }, (_, i) => values[Math.round((i * (values.length - 1)) / (count - 1))]!)
}

/** The keys of one run, found by skipping through the index from key to key: no series is read. */
function metricKeysOf(store: ReadableStore, run: number): { key: number; name: string }[] {
  const keys = prepare(store, 'SELECT id AS key, key AS name FROM metric_keys ORDER BY id').all() as { key: number; name: string }[]
  const has = prepare(store, 'SELECT 1 FROM metrics WHERE run = ? AND key = ? LIMIT 1')
  return keys.filter(({ key }) => has.get(run, key) !== undefined)
}

function keyId(store: WritableStore, key: string): number {
  let known = metricKeyId.get(store)
  if (known === undefined) metricKeyId.set(store, (known = new Map()))
  let id = known.get(key)
  if (id === undefined) {
    prepare(store, 'INSERT OR IGNORE INTO metric_keys (key) VALUES (?)').run(key)
    id = (prepare(store, 'SELECT id FROM metric_keys WHERE key = ?').get(key) as { id: number }).id
    known.set(key, id)
  }
  return id
}
