/** `moe experiments`: the paper's controlled experiments from the command line: list them, run one to its end, show what came out. */
import type { Core } from '#core/main.ts'
import { experimentInputSchema, type ExperimentResult } from '#core/shared/experiments.ts'
import { templateOf, templates } from '#core/shared/experiment-templates.ts'
import { followRun, withCore } from './core.ts'
import { UsageError, type Command, type Context } from './command.ts'

type Listed = { templates: { id: string; section: string; arms: string[] }[]; experiments: { id: string; template: string; done: number; runs: number }[] }

export const experimentsList: Command = {
  name: 'experiments',
  summary: 'the paper’s controlled experiments, and those of the library',
  usage: '',
  options: {},
  help: {},
  run: (_input, context): Promise<Listed> =>
    withCore(context, async (core) => ({
      templates: templates.map(({ id, section, arms }) => ({ id, section, arms: arms.map((arm) => arm.id) })),
      experiments: (await core.client.experiments.list()).map(({ id, input, done, runs }) => ({ id, template: input.template, done, runs })),
    })),
  words: (listed: Listed) =>
    [
      ...listed.templates.map(({ id, section, arms }) => `${id.padEnd(16)} §${section.padEnd(6)} ${arms.join(', ')}`),
      ...listed.experiments.map(({ id, template, done, runs }) => `${id}: ${template}, ${done} of ${runs} runs done`),
    ].join('\n'),
}

/** What a table of one experiment shows: our held-out losses beside the paper's. */
function table({ experiment, arms, verdict, difference }: ExperimentResult): string {
  const { section, paper } = templateOf(experiment.input.template)
  const [metric] = paper.metrics
  const number = (value: number | null | undefined, digits = 3): string => (value === null || value === undefined ? '–' : value.toFixed(digits))
  const signed = (value: number): string => `${value < 0 ? '−' : '+'}${number(Math.abs(value), 4)}`
  const rows = arms.map(({ arm, validation, difference: toBetter, tokensPerSecond, activeParameters, totalParameters, tokensToReach }) =>
    [
      arm.padEnd(12),
      `${(activeParameters / 1e6).toFixed(2)} M of ${(totalParameters / 1e6).toFixed(2)} M`.padEnd(20),
      `${number(validation?.mean, 4)} (${number(validation?.min)}–${number(validation?.max)}, ${validation?.count ?? 0} seeds)`.padEnd(32),
      (toBetter === null ? '' : `${signed(toBetter.mean)}${toBetter.deviation === null ? '' : ` ± ${number(toBetter.deviation, 4)}`} to ${paper.better}`).padEnd(28),
      `${number(tokensPerSecond?.mean, 0)} tokens/s`.padEnd(18),
      tokensToReach === null ? ''.padEnd(28) : `reaches ${tokensToReach.arm} at ${(100 * tokensToReach.ratio).toFixed(0)} %`.padEnd(28),
      `paper ${metric?.name}: ${number(metric?.byArm[arm])}`,
    ].join('  '),
  )
  return [`${experiment.input.template} (§${section}), experiment ${experiment.id}`, ...rows, `${paper.better} is better in the paper; here its difference is ${number(difference, 4)}: ${verdict}`].join('\n')
}

async function follow(core: Core, id: string, context: Context): Promise<ExperimentResult> {
  for (;;) {
    const result = await core.client.experiments.get({ id })
    const waiting = result.runs.find(({ status }) => ['queued', 'running', 'stopping'].includes(status))
    if (waiting === undefined) return result
    context.note(`${waiting.name} (${result.runs.filter(({ status }) => status === 'done').length} of ${result.runs.length} done)`)
    await followRun(core, waiting.id, context)
  }
}

export const experimentsRun: Command = {
  name: 'experiments run',
  summary: 'run one of the paper’s experiments on this machine and compare',
  usage: '<template> [--scale minutes|hour] [--seeds 1,2,3] [--steps N] [--mix M] [--dense CHECKPOINT]',
  options: { scale: { type: 'string' }, seeds: { type: 'string' }, steps: { type: 'string' }, mix: { type: 'string' }, dense: { type: 'string' }, 'second-mix': { type: 'string' } },
  help: {
    scale: 'minutes (default) or hour', seeds: 'every arm is run once for each (default 6198)', steps: 'of every run (default: the scale’s)',
    mix: 'id of a built mix (default: the sample)', dense: 'checkpoint of a dense model, for upcycling', 'second-mix': 'the other mix, for the experiment on data',
  },
  async run({ values, positionals }, context): Promise<ExperimentResult> {
    const input = experimentInputSchema.safeParse({
      template: positionals[0],
      ...(values.scale !== undefined && { scale: values.scale }),
      ...(values.seeds !== undefined && { seeds: String(values.seeds).split(',').map(Number) }),
      ...(values.steps !== undefined && { steps: Number(values.steps) }),
      ...(values.mix !== undefined && { mix: values.mix }),
      denseCheckpointId: values.dense ?? null,
      secondMix: values['second-mix'] ?? null,
    })
    if (!input.success) throw new UsageError(`${input.error.issues[0]!.path.join('.') || 'template'}: ${input.error.issues[0]!.message}`)
    return withCore(context, async (core) => follow(core, (await core.client.experiments.create(input.data)).id, context))
  },
  words: table,
}

export const experimentsShow: Command = {
  name: 'experiments show',
  summary: 'what came out of an experiment',
  usage: '<id>',
  options: {},
  help: {},
  async run({ positionals: [id] }, context): Promise<ExperimentResult> {
    if (id === undefined) throw new UsageError('give the id of an experiment')
    return withCore(context, (core) => core.client.experiments.get({ id }))
  },
  words: table,
}
