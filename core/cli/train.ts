/** `moe train`: one run in the foreground. Ctrl-C saves a checkpoint and stops; --resume goes on from it. */
import { runConfigSchema } from '#core/shared/runs.ts'
import { readJson, UsageError, type Command } from './command.ts'
import { followRun, reportRun, withCore, type Outcome } from './core.ts'

export const train: Command = {
  name: 'train',
  summary: 'train a run in the foreground; Ctrl-C saves and stops',
  usage: '<config.json> | --resume <runId>',
  options: { resume: { type: 'string' }, device: { type: 'string' }, threads: { type: 'string' } },
  help: { resume: 'go on with a stopped or interrupted run', device: 'cpu (default); overrides the file', threads: 'CPU threads; overrides the file' },
  async run({ values, positionals }, context): Promise<Outcome> {
    const [path] = positionals
    if ((path === undefined) === (values.resume === undefined)) throw new UsageError('give a config.json, or --resume <runId>')
    const overrides = { ...(values.device !== undefined && { device: values.device }), ...(values.threads !== undefined && { threads: Number(values.threads) }) }
    const config = path === undefined ? null : runConfigSchema.safeParse({ ...readJson(path, runConfigSchema), ...overrides })
    if (config && !config.success) throw new UsageError(`${config.error.issues[0]!.path.join('.')}: ${config.error.issues[0]!.message}`)
    return withCore(context, async (core) => {
      const run = config ? await core.client.runs.create({ config: config.data }) : await core.client.runs.resume({ id: String(values.resume) })
      context.note(`run ${run.id}`)
      return reportRun(core, await followRun(core, run.id, context))
    })
  },
  words: (r: Outcome) =>
    `run ${r.runId}: ${r.steps} steps, ${r.tokens} tokens in ${r.seconds.toFixed(0)} s\nloss ${r.losses[0]?.toFixed(3)} → ${r.losses.at(-1)?.toFixed(3)}, validation ${r.validationLoss.before?.toFixed(3)} → ${r.validationLoss.after?.toFixed(3)}\ncheckpoint ${r.checkpointId ?? 'none'}`,
}
