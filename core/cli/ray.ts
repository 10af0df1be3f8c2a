/**
 * `moe ray …`: runs that a Ray cluster trains. `train` submits one and follows it; Ctrl-C leaves it to the cluster, and `follow` or an open
 * workbench takes it up again. `write` makes the job folder alone, to be run by hand. `check` asks who is there.
 */
import { join, resolve } from 'node:path'
import { nodeHost } from '#core/node-host.ts'
import { rayClient } from '#core/ray/client.ts'
import type { ClusterAnswer } from '#core/shared/clusters.ts'
import { AppError } from '#core/shared/errors.ts'
import { runConfigSchema, type Run, type RunConfig } from '#core/shared/runs.ts'
import { writeRayJob } from '#core/train/export/ray-job.ts'
import { numberOption, readJson, requiredOption, UsageError, type Command, type Context } from './command.ts'
import { followRun, reportRun, withCore, type Outcome } from './core.ts'
import { train } from './train.ts'

type Values = Record<string, string | boolean | undefined>

const clusterOptions = { workers: { type: 'string' }, 'gpus-per-worker': { type: 'string' }, 'cluster-folder': { type: 'string' }, python: { type: 'string' } } as const
const clusterHelp = { workers: 'processes that train together (default: 1)', 'gpus-per-worker': 'default: 0, the CPU', 'cluster-folder': 'the same folder as the cluster names it (default: alike)', python: 'what starts Python there (default: python)' }

/** The recipe of a file, for the cluster that the options name. */
function recipeOf(path: string | undefined, values: Values, address: string, folder: string): RunConfig {
  if (path === undefined) throw new UsageError('give a config.json')
  const cluster = {
    address, folder: resolve(folder),
    workers: numberOption(values, 'workers', 1, { min: 1, integer: true }),
    gpusPerWorker: numberOption(values, 'gpus-per-worker', 0, { min: 0 }),
    clusterFolder: values['cluster-folder'] ?? null,
    ...(values.python !== undefined && { python: values.python }),
  }
  const config = runConfigSchema.safeParse({ ...readJson(path, runConfigSchema), cluster })
  if (config.success) return config.data
  throw new UsageError(`${config.error.issues[0]!.path.join('.')}: ${config.error.issues[0]!.message}`)
}

function oneId(positionals: string[]): string {
  if (positionals.length !== 1) throw new UsageError('give the id of one run')
  return positionals[0]!
}

const follow = (run: (core: Parameters<Parameters<typeof withCore>[1]>[0]) => Promise<Run>, context: Context): Promise<Outcome> =>
  withCore(context, async (core) => {
    const { id } = await run(core)
    context.note(`run ${id}; Ctrl-C leaves it to the cluster, moe ray follow ${id} takes it up again`)
    return reportRun(core, await followRun(core, id, context, 'leave'))
  })

export const rayTrain: Command = {
  name: 'ray train',
  summary: 'train a run on a Ray cluster and follow it',
  usage: '<config.json> --address URL --folder SHARED [--workers N]',
  options: { address: { type: 'string' }, folder: { type: 'string' }, ...clusterOptions },
  help: { address: "of Ray's dashboard, such as http://127.0.0.1:8265", folder: 'a folder that this machine and the cluster both reach', ...clusterHelp },
  run({ values, positionals }, context) {
    const config = recipeOf(positionals[0], values, requiredOption(values, 'address'), requiredOption(values, 'folder'))
    return follow((core) => core.client.runs.create({ config }), context)
  },
  words: train.words,
}

export const rayFollow: Command = {
  name: 'ray follow',
  summary: 'take up a run that a cluster trains, or resume one that ended early',
  usage: '<runId>',
  options: {},
  help: {},
  run: ({ positionals }, context) => follow((core) => core.client.runs.resume({ id: oneId(positionals) }), context),
  words: train.words,
}

export const rayStop: Command = {
  name: 'ray stop',
  summary: 'stop a run on its cluster, with a checkpoint',
  usage: '<runId> [--discard]',
  options: { discard: { type: 'boolean' } },
  help: { discard: 'at once, without a checkpoint' },
  run: ({ values, positionals }, context) =>
    withCore(context, async (core) => {
      const id = oneId(positionals)
      await core.client.runs.stop({ id, save: values.discard !== true })
      return followRun(core, id, context, 'leave')
    }),
  words: (run: Run) => `run ${run.id}: ${run.status} at step ${run.step}`,
}

export const rayCheck: Command = {
  name: 'ray check',
  summary: 'ask an address whether a Ray with a job API is there',
  usage: '--address URL',
  options: { address: { type: 'string' } },
  help: { address: "of Ray's dashboard" },
  run: ({ values }) => rayClient(requiredOption(values, 'address')).check(),
  words: ({ rayVersion, nodes, cpus, gpus }: ClusterAnswer) => `Ray ${rayVersion}: ${nodes ?? '?'} machines, ${cpus ?? '?'} CPUs, ${gpus ?? '?'} GPUs`,
}

export const rayWrite: Command = {
  name: 'ray write',
  summary: 'write the job folder of a run without submitting it',
  usage: '<config.json> --out FOLDER [--workers N]',
  options: { out: { type: 'string' }, workers: clusterOptions.workers, 'gpus-per-worker': clusterOptions['gpus-per-worker'] },
  help: { out: 'the folder; start its train.py where Ray is', workers: clusterHelp.workers, 'gpus-per-worker': clusterHelp['gpus-per-worker'] },
  async run({ values, positionals }, context) {
    const out = resolve(requiredOption(values, 'out'))
    const config = recipeOf(positionals[0], values, 'http://127.0.0.1:8265', out)
    if (config.mix === 'sample') throw new AppError('ray.needsMix', 'mix: "sample" is built by a run; a job folder needs the id of a built mix', { params: { field: 'mix' }, hint: 'moe data build makes one; after any run on the sample its mix has an id too.' })
    const start = config.startFrom === null ? null : join(context.library, 'checkpoints', config.startFrom.checkpointId)
    await writeRayJob(out, {
      config, start,
      mix: join(context.library, 'mixes', config.mix),
      script: join(nodeHost({ kind: 'cli', libraryPath: context.library }).resourcesPath, 'ray/train.py'),
      stands: { step: 0, tokens: 0, seconds: 0 },
      onProgress: (phase, done, total, unit) => context.progress(`${phase}: ${done} of ${total} ${unit}`),
    })
    return { out, script: join(out, 'train.py') }
  },
  words: ({ script }: { script: string }) => `start it where Ray is: python ${script}`,
}
