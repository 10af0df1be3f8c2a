/** `moe analyze`: what a model's experts do on a mix or a text, into a folder: counters, every figure as SVG and CSV, and a report. */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { writeFileAtomic } from '#core/formats/atomic.ts'
import { runAnalysis, type AnalysisRequest } from '#core/runner/analysis.ts'
import type { RoutingCounters } from '#core/shared/analyses.ts'
import { AppError } from '#core/shared/errors.ts'
import { lightPalette, toCsv, type Figure } from '#core/shared/figures/figure.ts'
import { reportHtml } from '#core/shared/figures/report.ts'
import { ablationFigures, allFigures, englishFigureWords } from '#core/shared/figures/routing-figures.ts'
import type { AnalysedCheckpoint } from '#core/shared/jobs.ts'
import { layerLoad, loadBalanceForms, pairBaseline, uniformShare, vocabularyOf } from '#core/shared/routing-statistics.ts'
import { readCheckpoint } from '#core/train/checkpoint.ts'
import { numberOption, requiredOption, UsageError, type Command, type Context } from './command.ts'
import { deviceHelp, deviceOptions, dtypeHelp, dtypeOptions, modelFolder, openBackend, typeOption } from './model.ts'

type Values = Record<string, string | boolean | undefined>

/** A checkpoint of ours knows its step; another folder goes by its name. */
function checkpointOf(model: string, context: Context): AnalysedCheckpoint {
  const folder = modelFolder({ model }, context)
  const step = existsSync(join(folder, 'state.json')) ? readCheckpoint(folder).manifest.step : null
  return { id: basename(resolve(model)), folder, label: basename(resolve(model)), step }
}

/** --data: a mix of the library, or a text file. */
function dataOf(values: Values, context: Context): AnalysisRequest['data'] {
  const data = requiredOption(values, 'data')
  const split = values.split ?? 'validation'
  if (split !== 'validation' && split !== 'train') throw new UsageError(`--split is "${String(split)}", expected validation or train`)
  const tokensPerDomain = numberOption(values, 'tokens', 200_000, { min: 1, integer: true })
  const domains = typeof values.domains === 'string' ? values.domains.split(',') : null
  if (/^[A-Za-z0-9_-]+$/.test(data) && existsSync(join(context.library, 'mixes', data))) return { kind: 'mix', mixId: data, split, domains, tokensPerDomain }
  if (existsSync(data) && statSync(data).isFile()) return { kind: 'text', text: readFileSync(data, 'utf8') }
  throw new AppError('analyze.noData', `no mix and no text file "${data}"`, { params: { data, library: context.library }, hint: 'Give the id of a mix of the library (moe data build makes one) or the path of a text file.' })
}

function summaryOf(counters: RoutingCounters): Record<string, unknown> {
  const loads = counters.layers.map((_, layer) => layerLoad(counters, layer))
  return {
    tokens: counters.tokens,
    layers: counters.layers,
    domains: counters.domains.map(({ name, tokens, loss }) => ({ name, tokens, loss })),
    loadBalance: loadBalanceForms(counters),
    utilisation: loads.map(({ utilisation }) => utilisation),
    deadExperts: loads.map(({ dead }) => dead),
    routerEntropy: counters.entropyMean,
    saturation: counters.saturation.map(({ checkpointId, topK, top1 }) => ({ checkpointId, topK, top1 })),
    vocabulary: (['input', 'predicted', 'truth'] as const).map((variant) => ({ variant, minimumCount: 10, top1: vocabularyOf(counters, variant, 'top1', 10)?.byLayer, topK: vocabularyOf(counters, variant, 'topK', 10)?.byLayer })),
    chance: { topK: uniformShare(counters, 'topK'), top1: uniformShare(counters, 'top1'), pairs: pairBaseline(counters, 'all'), adjacentPairs: pairBaseline(counters, 'adjacent') },
  }
}

async function writeFigures(out: string, title: string, figures: readonly Figure[], facts: [string, string][]): Promise<void> {
  mkdirSync(join(out, 'figures'), { recursive: true })
  for (const figure of figures) {
    await writeFileAtomic(join(out, 'figures', `${figure.id}.svg`), [figure.svg])
    await writeFileAtomic(join(out, 'figures', `${figure.id}.csv`), [toCsv(figure)])
  }
  const notes = ['Error bars of domains, saturation and ablation are 95 % intervals over sequences; intervals of load and co-activation are Wilson’s and take tokens as independent. Co-activation is N_ij/N_i over all pairs; "neighbours in rank" counts only experts next to each other in the top k, as the released scripts of OLMoE do.']
  await writeFileAtomic(join(out, 'report.html'), [reportHtml({ title, language: 'en', facts, notes, tableWord: 'Table', figures })])
}

type Result = { out: string; tokens: number; seconds: number; figures: string[] } & Record<string, unknown>

export const analyze: Command = {
  name: 'analyze',
  summary: 'saturation, co-activation, specialization and load of the experts, as figures and a report',
  usage: '--model M --data D [--against M2,…] --out FOLDER',
  options: {
    model: { type: 'string' }, data: { type: 'string' }, against: { type: 'string' }, out: { type: 'string' }, split: { type: 'string' },
    domains: { type: 'string' }, tokens: { type: 'string' }, sequence: { type: 'string' }, ablation: { type: 'boolean' }, ...dtypeOptions, ...deviceOptions,
  },
  help: {
    model: 'checkpoint id or Hugging Face folder', data: 'mix of the library, or a text file', against: 'models whose routing of the same tokens is compared, separated by commas',
    out: 'folder for the results; files of an earlier analysis in it are replaced', split: 'validation (default) or train', domains: 'domains of the mix, separated by commas (default: all)',
    tokens: 'at most so many tokens of each domain (default 200000)', sequence: 'tokens of a sequence (default 256)', ablation: 'the loss without each expert instead: one pass for every expert', ...dtypeHelp, ...deviceHelp,
  },
  async run({ values }, context): Promise<Result> {
    const out = resolve(requiredOption(values, 'out'))
    const model = checkpointOf(requiredOption(values, 'model'), context)
    const against = typeof values.against === 'string' ? values.against.split(',').map((name) => checkpointOf(name, context)) : []
    const sequence = numberOption(values, 'sequence', 0, { min: 8, integer: true })
    const request: AnalysisRequest = { kind: values.ablation === true ? 'ablation' : 'routing', model, against, data: dataOf(values, context), sequenceLength: sequence || null, type: typeOption(values), mixes: join(context.library, 'mixes') }
    const backend = await openBackend(values)
    mkdirSync(out, { recursive: true })
    const counters = join(out, 'counters')
    rmSync(counters, { recursive: true, force: true })
    const startedAt = performance.now()
    const result = await runAnalysis(backend, request, counters, { onProgress: (phase, done, total) => context.progress(`${phase}: ${total === null ? done : `${done} of ${total}`}`) })
    const seconds = (performance.now() - startedAt) / 1000
    await backend.close()
    if (result === null) throw new Error('nobody stops this analysis')
    const figures = result.kind === 'routing' ? allFigures({ counters: result.counters, words: englishFigureWords, palette: lightPalette }) : ablationFigures(result.ablation, englishFigureWords, lightPalette)
    const names = (list: readonly AnalysedCheckpoint[]): string => list.map(({ label }) => label).join(', ')
    const { domains } = result.kind === 'routing' ? result.counters : result.ablation
    const facts: [string, string][] = [['Model', model.label], ...(against.length > 0 ? [['Compared with', names(against)] as [string, string]] : []), ['Tokens', String(result.tokens)], ...domains.map(({ name, tokens, loss }): [string, string] => [name, `${tokens} tokens, loss ${loss.toFixed(4)}`])]
    await writeFigures(out, `Experts of ${model.label}`, figures, facts)
    return { out, tokens: result.tokens, seconds, figures: figures.map(({ id }) => id), ...(result.kind === 'routing' ? summaryOf(result.counters) : { ablation: result.ablation }) }
  },
  words: ({ out, tokens, seconds, figures }: Result) => `${tokens} tokens in ${seconds.toFixed(1)} s: ${figures.length} figures and report.html in ${out}`,
}
