/** `moe train`: one run in the foreground. Ctrl-C saves a checkpoint and stops; --resume goes on from it. */
import { deviceSchema, runConfigSchema } from '#core/shared/runs.ts'
import { readJson, UsageError, type Command } from './command.ts'
import { followRun, reportRun, withCore, type Outcome } from './core.ts'
import { deviceHelp, deviceOptions } from './model.ts'

/** What the options change of a recipe. Going to the CPU takes its precision along. */
function overridesOf({ device, adapter, precision, threads }: Record<string, string | boolean | undefined>): object {
  const given = { device, adapter, precision: precision ?? (device === 'cpu' ? 'float32' : undefined), threads: threads === undefined ? undefined : Number(threads) }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}

export const train: Command = {
  name: 'train',
  summary: 'train a run in the foreground; Ctrl-C saves and stops',
  usage: '<config.json> | --resume <runId> [--device cpu|webgpu]',
  options: { resume: { type: 'string' }, ...deviceOptions },
  help: { resume: 'go on with a stopped, failed or interrupted run; with --device, on that device', ...deviceHelp, device: 'cpu or webgpu; overrides the file', threads: 'CPU threads; overrides the file' },
  async run({ values, positionals }, context): Promise<Outcome> {
    const [path] = positionals
    if ((path === undefined) === (values.resume === undefined)) throw new UsageError('give a config.json, or --resume <runId>')
    const config = path === undefined ? null : runConfigSchema.safeParse({ ...readJson(path, runConfigSchema), ...overridesOf(values) })
    if (config && !config.success) throw new UsageError(`${config.error.issues[0]!.path.join('.')}: ${config.error.issues[0]!.message}`)
    const fixed = ['adapter', 'precision', 'threads'].find((name) => config === null && values[name] !== undefined)
    if (fixed !== undefined) throw new UsageError(`--${fixed} cannot be changed when a run is resumed, only --device can`)
    const device = deviceSchema.optional().safeParse(values.device)
    if (!device.success) throw new UsageError(`--device is "${String(values.device)}", expected cpu or webgpu`)
    return withCore(context, async (core) => {
      const run = config ? await core.client.runs.create({ config: config.data }) : await core.client.runs.resume({ id: String(values.resume), device: device.data })
      context.note(`run ${run.id}`)
      return reportRun(core, await followRun(core, run.id, context))
    })
  },
  words: (r: Outcome) =>
    `run ${r.runId}: ${r.steps} steps, ${r.tokens} tokens in ${r.seconds.toFixed(0)} s\nloss ${r.losses[0]?.toFixed(3)} → ${r.losses.at(-1)?.toFixed(3)}, validation ${r.validationLoss.before?.toFixed(3)} → ${r.validationLoss.after?.toFixed(3)}\ncheckpoint ${r.checkpointId ?? 'none'}`,
}
