/** What every group of the benchmark needs: rows and how they print, medians of interleaved rounds, ops timed by the kernels' own clock. */
import { setTimeout } from 'node:timers/promises'
import { cpus, loadavg, totalmem } from 'node:os'
import type { OpName, Recording } from '#core/backend/backend.ts'
import type { CpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'

/**
 * One line of a table: the median and spread of `value`, and its ratio to `peer`, measured in the same run (null where there is none):
 * the fastest round of each, because what a busy machine adds to a round is never the kernel's; and the median over rounds.
 */
export type Row = { group: string; name: string; value: number; unit: string; peer: string; ratio: number | null; medianRatio?: number; spread: [number, number]; goal?: string }

/** `only`: what the caller wants of the group, where it can be asked for. */
export type BenchContext = { show(row: Row): void; note(text: string): void; only?: string | undefined }

/** A group of rows: one file `<name>.bench.ts` that exports `bench`. */
export type Bench = { readonly title: string; run(context: BenchContext): Promise<void> }

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export const geometricMean = (values: readonly number[]): number => Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length)

export const spreadOf = (values: readonly number[]): [number, number] => [Math.min(...values), Math.max(...values)]

/** The machine, for people and for the JSON. */
export const machine = (): { processor: string; cores: number; memoryGiB: number; node: string; platform: string; loadAverage: number } => ({
  processor: cpus()[0]?.model.trim() ?? 'unknown processor',
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  node: process.version,
  platform: `${process.platform} ${process.arch}`,
  loadAverage: loadavg()[0]!,
})

/** Runs every contender once per round, round after round, so that all meet the same machine; times by contender. */
export async function interleave<K extends string>(rounds: number, contenders: Record<K, () => Promise<number>>): Promise<Record<K, number[]>> {
  const names = Object.keys(contenders) as K[]
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<K, number[]>
  for (let round = 0; round < rounds; round++) {
    for (const name of names) {
      // Threads of the one before may still wait, spinning, for more to do.
      await setTimeout(2)
      times[name].push(await contenders[name]())
    }
  }
  return times
}

/** How much longer `a` takes than `b`: by the fastest round of each, and the median over rounds. */
export const ratioOf = (a: readonly number[], b: readonly number[]): { ratio: number; medianRatio: number } => ({
  ratio: Math.min(...a) / Math.min(...b),
  medianRatio: median(a.map((value, i) => value / b[i]!)),
})

/** Seconds that one `op` takes, by the kernels' clock: a plan that makes its inputs and then runs it `repeats` times. */
export async function timedOp(backend: CpuBackend, op: OpName, repeats: number, inputs: (b: Recording) => (b: Recording) => void): Promise<() => Promise<number>> {
  const plan = await backend.prepare(record(op, (b) => {
    const run = inputs(b)
    for (let i = 0; i < repeats; i++) run(b)
  }))
  await plan.run()
  return async () => {
    const before = backend.profile()[op] ?? 0
    await plan.run()
    return (backend.profile()[op]! - before) / 1e9 / repeats
  }
}

/** Runs per measurement so that one takes about 6 ms at `flopsPerSecond`: short enough to fall between two slices of a busy machine. */
export const repeatsFor = (flops: number, flopsPerSecond: number): number => Math.max(1, Math.min(200, Math.round((0.006 * flopsPerSecond) / flops)))
