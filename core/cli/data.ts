/** `moe data add|inspect|build|preview`: sources looked at, put into the file that describes a mix, built, and shown as batches. The file is plain JSON that can be edited. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { lockLibrary } from '#core/features/jobs/lock.ts'
import { productFolder } from '#core/node-host.ts'
import { buildMixOf } from '#core/runner/build-mix.ts'
import { mixRow, readMixManifest } from '#core/data/mix-manifest.ts'
import { previewMix, type Preview } from '#core/data/preview.ts'
import { inspectSource } from '#core/data/readers/source.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { filterSettingsSchema, type ComparedTask } from '#core/shared/filters.ts'
import { mixSpecSchema, type Mix, type MixSpec, type SourceOutcome } from '#core/shared/mixes.ts'
import { sourceSpecSchema, type SourceReport, type SourceSpec } from '#core/shared/sources.ts'
import { numberOption, readJson, requiredOption, UsageError, type Command, type Context } from './command.ts'
import { onInterrupt } from './core.ts'

type Values = Record<string, string | boolean | undefined>

const sourceOptions = { name: { type: 'string' }, licence: { type: 'string' }, format: { type: 'string' }, text: { type: 'string' }, id: { type: 'string' }, stars: { type: 'string' }, 'skip-bad-rows': { type: 'string' } } as const
const sourceHelp = {
  name: 'the source’s name, its domain in the mix',
  licence: 'its licence (default: unknown)',
  format: 'text, code, jsonl, json, csv or parquet (default: by the files’ names)',
  text: 'field with the text (default: found by looking at the rows)',
  id: 'field that names a document, with --text',
  stars: 'field with the stars of the repository, with --text',
  'skip-bad-rows': 'rows that may be unusable (default 0)',
}

/** The source that options and paths describe. */
export function sourceFrom(values: Values, paths: string[], name: string): SourceSpec {
  if (paths.length === 0) throw new UsageError('give files, folders or patterns')
  if (values.text === undefined && (values.id !== undefined || values.stars !== undefined)) throw new UsageError('--id and --stars need --text')
  const mapping = values.text === undefined ? null : { text: values.text, id: values.id ?? null, stars: values.stars ?? null }
  const source = sourceSpecSchema.safeParse({ name, licence: values.licence, paths, format: values.format ?? null, mapping, skipBadRows: numberOption(values, 'skip-bad-rows', 0, { min: 0, integer: true }) })
  if (!source.success) throw new UsageError(`${source.error.issues[0]!.path.join('.')}: ${source.error.issues[0]!.message}`)
  return source.data
}

function describeSource(report: SourceReport): string {
  const mapping = report.mapping === null ? 'whole files' : `text from "${report.mapping.text}"${report.mapping.id ? `, id from "${report.mapping.id}"` : ''}${report.mapping.stars ? `, stars from "${report.mapping.stars}"` : ''}`
  const counted = report.documents === null ? '' : `\n${report.documents} documents, ${report.textBytes} bytes of text, fingerprint ${report.fingerprint!.slice(0, 16)}`
  const skipped = report.badRows.map(({ message }) => `\nskipped: ${message}`).join('')
  const leftOut = report.leftOut.map(({ file, reason }) => `\nleft out: ${file} (${reason})`).join('')
  const examples = report.examples.map(({ id, text }) => `\n— ${id}: ${JSON.stringify(text.slice(0, 100))}`).join('')
  return `${report.name}: ${report.files} files (${report.formats.join(', ')}), ${report.sizeBytes} bytes, ${mapping}${counted}${skipped}${leftOut}${examples}`
}

const counting = (context: Context) => (documents: number): void => context.progress(`${documents} documents`)

export const dataInspect: Command = {
  name: 'data inspect',
  summary: 'look at files as a source: fields, documents, bad rows, fingerprint',
  usage: '<file, folder or pattern …> [--quick]',
  options: { quick: { type: 'boolean' }, ...sourceOptions },
  help: { quick: 'the first rows only', ...sourceHelp },
  run: ({ values, positionals }, context): Promise<SourceReport> =>
    inspectSource(sourceFrom(values, positionals, String(values.name ?? 'source')), process.cwd(), { complete: values.quick !== true, onProgress: counting(context) }),
  words: describeSource,
}

export const dataAdd: Command = {
  name: 'data add',
  summary: 'put files as a source into a mix file, which is made when missing',
  usage: '<file, folder or pattern …> --name N [--licence L] [--mix mix.json]',
  options: { mix: { type: 'string' }, ...sourceOptions },
  help: { mix: 'the file that describes the mix (default: mix.json)', ...sourceHelp },
  async run({ values, positionals }, context): Promise<SourceReport & { mix: string }> {
    const mix = resolve(String(values.mix ?? 'mix.json'))
    const source = sourceFrom(values, positionals.map((path) => resolve(path)), requiredOption(values, 'name'))
    const report = await inspectSource(source, dirname(mix), { complete: true, onProgress: counting(context) })
    const before = existsSync(mix) ? readJson(mix, mixSpecSchema) : { name: 'mix', sources: [] }
    const next = mixSpecSchema.parse({ ...before, sources: [...before.sources.filter(({ name }) => name !== source.name), { ...source, mapping: report.mapping }] })
    writeFileSync(mix, `${JSON.stringify(next, null, 2)}\n`)
    return { ...report, mix }
  },
  words: (report: SourceReport & { mix: string }) => `${describeSource(report)}\nadded to ${report.mix}; build it with: moe data build ${report.mix}`,
}

type Built = Mix & { outcomes: SourceOutcome[]; comparedTasks: ComparedTask[] }

/** The mix with the evaluation tasks that --tasks names in place of its own. */
function compareWith(spec: MixSpec, tasks: string | boolean | undefined): MixSpec {
  if (tasks === undefined) return spec
  const { contamination } = spec.filters
  if (contamination === null) throw new UsageError('--tasks needs the filter contamination, which the mix switches off')
  const named = filterSettingsSchema.safeParse({ contamination: { ...contamination, tasks: tasks === 'all' ? 'all' : tasks === 'none' ? [] : String(tasks).split(',') } })
  if (!named.success) throw new UsageError('--tasks: give all, none, or names separated by commas')
  return { ...spec, filters: { ...spec.filters, contamination: named.data.contamination } }
}

export const dataBuild: Command = {
  name: 'data build',
  summary: 'build the mix that a file describes; Ctrl-C stops, the same command goes on',
  usage: '<mix.json> [--threads n] [--tasks all|none|NAME,…]',
  options: { threads: { type: 'string' }, tasks: { type: 'string' } },
  help: { threads: 'threads that tokenize (default: all cores but one)', tasks: 'evaluation tasks whose items must not be trained on (default: as the file says, else all)' },
  async run({ values, positionals: [path, ...rest] }, context): Promise<Built> {
    if (path === undefined || rest.length > 0) throw new UsageError('give one mix.json')
    const threads = numberOption(values, 'threads', 0, { min: 0, integer: true })
    const spec = compareWith(readJson(path, mixSpecSchema), values.tasks)
    mkdirSync(context.library, { recursive: true })
    // An open workbench builds too, and takes in what is built: not both in one library.
    const unlock = lockLibrary(context.library)
    const stop = new AbortController()
    const release = onInterrupt(() => stop.abort(new UsageError('stopped; the same command goes on from here')))
    const since = new Map<string, number>()
    try {
      const manifest = await buildMixOf(spec, dirname(resolve(path)), { library: context.library, resources: join(productFolder, 'resources') }, {
        ...(threads > 0 && { threads }),
        signal: stop.signal,
        onProgress(phase, done, total, unit) {
          const startedAt = since.get(phase) ?? performance.now()
          since.set(phase, startedAt)
          const rate = done / Math.max(0.001, (performance.now() - startedAt) / 1000)
          const left = total !== null && done > 0 && rate > 0 ? ` · ${Math.round((total - done) / rate)} s left` : ''
          context.progress(`${phase}: ${done}${total === null ? '' : ` of ${total}`} ${unit} · ${Math.round(rate)} ${unit}/s${left}`)
        },
      })
      return { ...mixRow(manifest, spec.name, Date.now()), outcomes: manifest.outcomes ?? [], comparedTasks: manifest.comparedTasks ?? [] }
    } finally {
      release()
      unlock()
    }
  },
  words(built: Built) {
    const compared = built.comparedTasks.map(({ task, items, compared: long }) => `${task} (${long} of ${items} items are long enough)`).join(', ') || 'none'
    const rows = built.outcomes.map(({ name, documents, kept, share, epochs, warning, dropped }) => {
      const domain = built.domains.find((one) => one.name === name)!
      const lost = dropped.map(({ filter, documents: count, tokens }) => `\n      ${filter}: ${count} documents, ${tokens} tokens`).join('')
      return `  ${name.padEnd(20)} ${kept} of ${documents} documents · ${domain.trainTokens} + ${domain.validationTokens} held-out tokens · ${(100 * share).toFixed(1)} % · ${epochs.toFixed(2)} epochs${warning === 'none' ? '' : ` (${warning})`}${lost}`
    })
    return `mix ${built.id}, hash ${built.hash.slice(0, 16)}\n${rows.join('\n')}\nevaluation tasks it was held against: ${compared}`
  },
}

export const dataPreview: Command = {
  name: 'data preview',
  summary: 'the first batches of a mix, decoded, as a run with that seed sees them',
  usage: '<mix id> [--sequence-length n --sequences n --steps n --seed n]',
  options: { 'sequence-length': { type: 'string' }, sequences: { type: 'string' }, steps: { type: 'string' }, seed: { type: 'string' } },
  help: { 'sequence-length': 'tokens of an instance (default 256)', sequences: 'instances per step (default 8)', steps: 'steps to show (default 1)', seed: 'of the run (default 6198)' },
  async run({ values, positionals: [id, ...rest] }, context): Promise<Preview> {
    if (id === undefined || rest.length > 0 || !/^[A-Za-z0-9_-]+$/.test(id)) throw new UsageError('give one mix id')
    const number = (name: string, fallback: number, min: number): number => numberOption(values, name, fallback, { min, integer: true })
    const folder = join(context.library, 'mixes', id)
    const options = { sequenceLength: number('sequence-length', 256, 8), sequencesPerStep: number('sequences', 8, 1), steps: number('steps', 1, 1), seed: number('seed', 6198, 0) }
    return previewMix(folder, readMixManifest(folder), loadTokenizer(join(folder, 'tokenizer.json')), options)
  },
  words: ({ steps, bySource, instances }: Preview) =>
    [
      ...steps.flatMap((step, i) => [`step ${i + 1}`, ...step.instances.map(({ source, instance, text, masked }) => `  ${source} ${instance}${masked ? ' (no loss)' : ''}: ${JSON.stringify(text.slice(0, 100))}`)]),
      `${Object.entries(bySource).map(([name, count]) => `${name} ${count}`).join(', ')}; ${instances} instances per pass`,
    ].join('\n'),
}
