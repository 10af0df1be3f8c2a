/**
 * Many resolutions of one series: level l has the lowest and the highest value, each with its step, of every bucket of 4·4^l steps.
 * A bucket is always computed anew from the four below it (the first level from the points), so a value written twice and a rewind
 * leave the same rows as a run that never had them. A step costs a few row reads per level, a million points a tenth of their rows.
 */
import { prepare, type ReadableStore, type WritableStore } from './open.ts'

/** Step and value of the lowest point, then of the highest. */
export type Extremes = [lowStep: number, low: number, highStep: number, high: number]

const levels = 6
const pointsPerBucket = 16

export const bucketWidth = (level: number): number => 4 * 4 ** level

/** The coarsest level whose buckets are no wider than `width` steps; 0 = the points themselves. */
export function levelFor(width: number): number {
  let level = 0
  while (level < levels && bucketWidth(level + 1) <= width) level++
  return level
}

const bucketsSql = 'SELECT low_step, low, high_step, high FROM metric_buckets WHERE run = ? AND key = ? AND level = ? AND bucket BETWEEN ? AND ? ORDER BY bucket'

export function readBuckets(store: ReadableStore, run: number, key: number, level: number, first: number, last: number): IterableIterator<Extremes> {
  return prepare(store, bucketsSql).raw(true).iterate(run, key, level, first, last) as IterableIterator<Extremes>
}

/** Makes the buckets around the given steps agree with the points; with `andAfter`, drops all that come after them. */
export function refreshBuckets(store: WritableStore, run: number, key: number, steps: readonly number[], andAfter = false): void {
  const write = prepare(store, 'INSERT OR REPLACE INTO metric_buckets (run, key, level, bucket, low_step, low, high_step, high) VALUES (?, ?, ?, ?, ?, ?, ?, ?)')
  const remove = prepare(store, 'DELETE FROM metric_buckets WHERE run = ? AND key = ? AND level = ? AND bucket = ?')
  const pointsOf = prepare(store, 'SELECT step, value, step, value FROM metrics WHERE run = ? AND key = ? AND step >= ? AND step < ?').raw(true)
  const childrenOf = prepare(store, bucketsSql).raw(true)
  let buckets = [...new Set(steps.map((step) => Math.floor(step / pointsPerBucket)))]
  for (let level = 1; level <= levels; level++) {
    if (andAfter) prepare(store, 'DELETE FROM metric_buckets WHERE run = ? AND key = ? AND level = ? AND bucket > ?').run(run, key, level, Math.max(...buckets))
    for (const bucket of buckets) {
      const parts = (level === 1 ? pointsOf.all(run, key, bucket * pointsPerBucket, (bucket + 1) * pointsPerBucket) : childrenOf.all(run, key, level - 1, bucket * 4, bucket * 4 + 3)) as Extremes[]
      const merged = parts.reduce<Extremes | null>(merge, null)
      if (merged === null) remove.run(run, key, level, bucket)
      else write.run(run, key, level, bucket, ...merged)
    }
    buckets = [...new Set(buckets.map((bucket) => Math.floor(bucket / 4)))]
  }
}

function merge(whole: Extremes | null, part: Extremes): Extremes {
  if (whole === null) return [...part]
  if (part[1] < whole[1]) [whole[0], whole[1]] = [part[0], part[1]]
  if (part[3] > whole[3]) [whole[2], whole[3]] = [part[2], part[3]]
  return whole
}
