/** `moe runs`, `moe runs show <id>`, `moe runs metrics <id> --key loss`: what the store knows. */
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import type { Run } from '#core/shared/runs.ts'
import { UsageError, type Command } from './command.ts'
import { withCore } from './core.ts'

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
    return withCore(context, async ({ client }) => {
      if (verb === undefined) return client.runs.list()
      if (verb === 'show') return { ...(await client.runs.get({ id: id! })), checkpoints: await client.checkpoints.list({ runId: id! }) }
      const series = await client.runs.metrics({ id: id!, keys: typeof values.key === 'string' ? [values.key] : null, maxPoints: 10_000_000 })
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
