/**
 * The series of runs: scalars by (run, key, step) and expert counts by (run, step). Writing a step twice leaves the later
 * values, so that records found again after a crash may simply be written again. Values that are not finite are never
 * stored: neither SQLite nor JSON can hold them (the supervisor says so in the run's log). Reading is as fast for a
 * million points as for a thousand: see buckets.ts.
 */
import type { Series, StepRecord } from '#core/shared/runs.ts'
import { bucketWidth, levelFor, readBuckets, refreshBuckets, type Extremes } from './buckets.ts'
import { prepare, type ReadableStore, type WritableStore } from './open.ts'

const metricKeyId = new WeakMap<WritableStore, Map<string, number>>()

/** Seconds of training at a step, so that a curve can be drawn over time. */
export const secondsKey = 'seconds'

/** Writes step records. One transaction around many of them is the caller's. */
export function insertSteps(store: WritableStore, run: number, steps: readonly StepRecord[]): void {
  const insert = prepare(store, 'INSERT OR REPLACE INTO metrics (run, key, step, value) VALUES (?, ?, ?, ?)')
  const insertLoad = prepare(store, 'INSERT OR REPLACE INTO expert_loads (run, step, counts) VALUES (?, ?, ?)')
  const touched = new Map<number, number[]>()
  for (const record of steps) {
    for (const [name, value] of [...Object.entries(record.scalars), [secondsKey, record.elapsedMs / 1000] as const]) {
      if (!Number.isFinite(value)) continue
      const key = keyId(store, name)
      insert.run(run, key, record.step, value)
      const known = touched.get(key)
      if (known === undefined) touched.set(key, [record.step])
      else known.push(record.step)
    }
    if (record.expertCounts !== null && keepsLoad(record.step)) insertLoad.run(run, record.step, Buffer.from(Uint32Array.from(record.expertCounts).buffer))
  }
  for (const [key, written] of touched) refreshBuckets(store, run, key, written)
}

const allLoadsUntil = 16_384

/** Every step's load at first, then ever fewer: some thousand for every doubling of the run, since they are large. */
function keepsLoad(step: number): boolean {
  return step <= allLoadsUntil || step % 2 ** Math.ceil(Math.log2(step / allLoadsUntil)) === 0
}

/** Deletes everything after `step`: what a rewind does before a run goes on from there. */
export function deleteStepsAfter(store: WritableStore, run: number, step: number): void {
  for (const { key } of metricKeysOf(store, run)) {
    prepare(store, 'DELETE FROM metrics WHERE run = ? AND key = ? AND step > ?').run(run, key, step)
    refreshBuckets(store, run, key, [step], true)
  }
  prepare(store, 'DELETE FROM expert_loads WHERE run = ? AND step > ?').run(run, step)
}

/** The keys that a run has values of, in the order they were first used anywhere. */
export function seriesKeys(store: ReadableStore, run: number): string[] {
  return metricKeysOf(store, run).map(({ name }) => name)
}

/** Exported for the test of its query plan. */
export const seriesSql = 'SELECT step, value FROM metrics WHERE run = ? AND key = ? AND step BETWEEN ? AND ? ORDER BY step'
const boundsSql = `SELECT (SELECT min(step) FROM metrics WHERE run = :run AND key = :key AND step BETWEEN :from AND :to) AS first,
  (SELECT max(step) FROM metrics WHERE run = :run AND key = :key AND step BETWEEN :from AND :to) AS last`

export type SeriesRange = { maxPoints: number; fromStep?: number; toStep?: number }

/**
 * One series, or the part of it from `fromStep` to `toStep`, thinned to at most `maxPoints` by splitting the steps into equal
 * buckets and keeping the lowest and the highest value of each, at their own steps: no spike is lost, whatever the zoom. Points of the
 * buckets at either end may lie a little outside.
 */
export function readSeries(store: ReadableStore, run: number, name: string, { maxPoints, fromStep = 0, toStep = Number.MAX_SAFE_INTEGER }: SeriesRange): Series {
  const series: Series = { key: name, steps: [], values: [] }
  const key = (prepare(store, 'SELECT id FROM metric_keys WHERE key = ?').get(name) as { id: number } | undefined)?.id
  if (key === undefined) return series
  const { first, last } = prepare(store, boundsSql).get({ run, key, from: fromStep, to: toStep }) as { first: number | null; last: number | null }
  if (first === null || last === null) return series
  const push = (step: number, value: number): void => {
    series.steps.push(step)
    series.values.push(value)
  }
  const rows = (): IterableIterator<[number, number]> => prepare(store, seriesSql).raw(true).iterate(run, key, first, last) as IterableIterator<[number, number]>
  if (last - first < maxPoints) {
    for (const [step, value] of rows()) push(step, value)
    return series
  }
  const width = (last - first + 1) / Math.max(1, Math.floor(maxPoints / 2))
  const level = levelFor(width)
  if (level === 0) thin(points(rows()), first, width, push)
  else thin(readBuckets(store, run, key, level, Math.floor(first / bucketWidth(level)), Math.floor(last / bucketWidth(level))), first, width, push)
  return series
}

function* points(rows: Iterable<[number, number]>): Generator<Extremes> {
  for (const [step, value] of rows) yield [step, value, step, value]
}

/** Merges extremes, in the order of their steps, into buckets of `width` steps. */
function thin(rows: Iterable<Extremes>, first: number, width: number, push: (step: number, value: number) => void): void {
  let bucket = -1
  let own: Extremes = [0, 0, 0, 0]
  const flush = (): void => {
    if (bucket < 0) return
    const [lowStep, low, highStep, high] = own
    if (lowStep < highStep) push(lowStep, low)
    push(highStep, high)
    if (lowStep > highStep) push(lowStep, low)
  }
  for (const row of rows) {
    const next = Math.max(0, Math.floor((Math.min(row[0], row[2]) - first) / width))
    if (next !== bucket) {
      flush()
      bucket = next
      own = [...row]
      continue
    }
    if (row[1] < own[1]) [own[0], own[1]] = [row[0], row[1]]
    if (row[3] > own[3]) [own[2], own[3]] = [row[2], row[3]]
  }
  flush()
}

/**
 * Expert counts at up to `maxPoints` evenly chosen steps: the steps that have counts, and per step the counts
 * [layers × experts] as they were stored. A seek for each, whatever the length of the run.
 */
export function readExpertCounts(store: ReadableStore, run: number, maxPoints: number): { step: number; counts: Uint32Array }[] {
  const { first, last } = prepare(
    store,
    'SELECT (SELECT min(step) FROM expert_loads WHERE run = :run) AS first, (SELECT max(step) FROM expert_loads WHERE run = :run) AS last',
  ).get({ run }) as { first: number | null; last: number | null }
  if (first === null || last === null) return []
  const read = prepare(store, 'SELECT step, counts FROM expert_loads WHERE run = ? AND step >= ? ORDER BY step LIMIT 1')
  const wanted = Math.min(maxPoints, last - first + 1)
  const found: { step: number; counts: Uint32Array }[] = []
  for (let i = 0; i < wanted; i++) {
    const target = wanted === 1 ? last : first + Math.round((i * (last - first)) / (wanted - 1))
    if (target <= (found.at(-1)?.step ?? -1)) continue
    const { step, counts } = read.get(run, target) as { step: number; counts: Buffer }
    found.push({ step, counts: new Uint32Array(Uint8Array.from(counts).buffer) })
  }
  return found
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
