/** `moe runs`, `moe runs show <id>`, `moe runs metrics <id> --key loss`: what the store knows. It only looks, so it works beside an open workbench. */
import { join } from 'node:path'
import { runNotFound } from '#core/features/services.ts'
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import type { Run } from '#core/shared/runs.ts'
import { listCheckpoints } from '#core/store/checkpoints.ts'
import { readSeries, seriesKeys } from '#core/store/metrics.ts'
import { openReadOnly, type ReadableStore } from '#core/store/open.ts'
import { findRun, listRuns, runNumber } from '#core/store/runs.ts'
import { UsageError, type Command, type Context } from './command.ts'
import { withCore } from './core.ts'

/** A library that is not there yet, or of an older format, is made ready by a core first. */
async function withLibrary<R>(context: Context, work: (store: ReadableStore) => R): Promise<R> {
  const path = join(context.library, 'library.sqlite')
  const store = openReadOnly(path) ?? (await withCore(context, async () => undefined), openReadOnly(path)!)
  try {
    return work(store)
  } finally {
    store.close()
  }
}

type Point = { key: string; step: number; value: number }

const row = (run: Run): string =>
  `${run.id}  ${run.status.padEnd(11)}  step ${run.step}/${run.config.steps}  loss ${run.lastLoss?.toFixed(3) ?? '—'}  ${run.name}`

export const runs: Command = {
  name: 'runs',
  summary: 'list runs; `runs show <id>`; `runs metrics <id> --key loss`',
  usage: '[show <id> | metrics <id> [--key K]]',
  options: { key: { type: 'string' } },
  help: { key: 'one series (default: all)' },
  async run({ values, positionals }, context): Promise<Run[] | (Run & { checkpoints: Checkpoint[] }) | Point[]> {
    const [verb, id, ...rest] = positionals
    if (rest.length > 0 || (verb !== undefined && (id === undefined || !['show', 'metrics'].includes(verb)))) throw new UsageError(`"${positionals.join(' ')}": expected show <id> or metrics <id>`)
    return withLibrary(context, (store) => {
      if (verb === undefined) return listRuns(store)
      const run = findRun(store, id!)
      if (run === null) throw runNotFound(id!)
      if (verb === 'show') return { ...run, checkpoints: listCheckpoints(store, id!) }
      const number = runNumber(store, id!)!
      const keys = typeof values.key === 'string' ? [values.key] : seriesKeys(store, number)
      const series = keys.map((key) => readSeries(store, number, key, { maxPoints: 100_000_000 }))
      return series.flatMap(({ key, steps, values: numbers }) => steps.map((step, i) => ({ key, step, value: numbers[i]! })))
    })
  },
  words(result: Run[] | (Run & { checkpoints: Checkpoint[] }) | Point[]) {
    if (!Array.isArray(result)) {
      const checkpoints = result.checkpoints.map(({ id, step, valid }) => `  checkpoint ${id}  step ${step}${valid ? '' : '  (damaged)'}`)
      return [row(result), ...checkpoints, JSON.stringify(result.config, null, 2)].join('\n')
    }
    if (result.length === 0) return 'nothing yet: moe quickstart trains a first run'
    return result.map((item) => ('status' in item ? row(item) : `${item.step}\t${item.key}\t${item.value}`)).join('\n')
  },
}
