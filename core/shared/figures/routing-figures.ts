/**
 * The figures of a routing analysis by page: which numbers of the counters each shows, and their words. English here, for the command line
 * and the report; a page passes its own language's words.
 */
import type { Ablation, CountKind, RoutingCounters, VocabularyVariant } from '../analyses.ts'
import { coactivation, domainShares, expertGroups, layerCounts, layerLoad, loadOf, pairBaseline, strongestExperts, strongFlows, uniformShare, vocabularyOf, wilsonInterval, type PairKind } from '../routing-statistics.ts'
import { barPanels, boxChart, lineChart } from './charts.ts'
import { percent, type Certainty, type Figure, type Palette } from './figure.ts'
import { flowDiagram } from './flow-diagram.ts'
import { heatMap } from './heat-map.ts'

export const englishFigureWords = {
  layer: 'layer', expert: 'expert', chance: 'chance', shareOfTokens: 'share of tokens', tokens: 'tokens', even: 'even',
  loadTitle: 'Load of every expert', loadSpread: 'Load over the experts of a layer', loadAxis: 'load over an even share', loadLevels: 'Utilisation and entropy by layer',
  utilisation: 'utilisation', loadEntropy: 'entropy of the load', routerEntropy: 'entropy of the router',
  minimum: 'minimum', quarter: '25 %', median: 'median', threeQuarters: '75 %', maximum: 'maximum',
  saturationTopK: 'Router saturation, top k', saturationTop1: 'Router saturation, first choice', saturationAxis: 'share of choices in common', checkpoint: 'checkpoint',
  coactivation: 'Co-activation, layer {layer}', with: 'together with', adjacent: 'neighbours in rank',
  flow: 'From layer {from} to layer {to}, flows above 1.5 × chance', first: 'first choice',
  domains: 'Domain specialization, layer {layer}', vocabulary: 'Vocabulary specialization by layer', vocabularyExperts: 'Vocabulary specialization of the experts of layer {layer}', vocabularyAxis: 'largest share that one expert has of a token',
  input: 'input token', predicted: 'predicted token', truth: 'true next token',
  ablation: 'Loss without an expert: {domain}', nats: 'nats', loadChange: 'Load, {label}',
  expertDomains: 'Its share of the tokens of every domain', domain: 'domain', expertGates: 'Gates that it gets', gate: 'gate, %',
}
export type FigureWords = typeof englishFigureWords

const fill = (pattern: string, values: Record<string, string | number>): string => pattern.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ''))
const experts = ({ experts: E }: Pick<RoutingCounters, 'experts'>): string[] => Array.from({ length: E }, (_, e) => String(e))
const times = (value: number): string => `${value.toFixed(2)} ×`
const plain = (value: number): string => value.toFixed(3)

/** `ends` of the colour scales, where figures are to be compared with others; by default they follow the data. */
export type FigureContext = { counters: RoutingCounters; words: FigureWords; palette: Palette; ends?: ScaleEnds }
export type ScaleEnds = { load: number; coactivation: number }

/** Ends that fit the load of all layers, and the co-activation of `layer`, of every one of `all`. */
export function commonEnds(all: readonly RoutingCounters[], layer: number): ScaleEnds {
  const loads = all.flatMap((one) => one.layers.map((_, l) => layerLoad(one, l).percentiles[4]))
  const pairs = all.flatMap((one) => coactivation(one, Math.min(layer, one.layers.length - 1), 'all'))
  return { load: Math.max(2, ...loads), coactivation: pairs.reduce((a, b) => Math.max(a, b), 0.1) }
}

/** Load: every expert, its spread over layers, utilisation and entropies; the load of the checkpoints compared with. */
export function loadFigures({ counters, words, palette, ends }: FigureContext, kind: CountKind = 'topK'): Figure[] {
  const loads = counters.layers.map((_, layer) => layerLoad(counters, layer, kind))
  const x = counters.layers.map(String)
  const { experts: E, topK } = counters
  /** Counts by layer; an expert's share of the tokens is k times its share of the assignments. */
  const map = (id: string, title: string, counts: number[][]): Figure => {
    const values = counts.flatMap((layer) => loadOf(layer).shares.map((share) => share * E))
    const perToken = E / (kind === 'topK' ? topK : 1)
    const certainty = (row: number, column: number): Certainty => {
      const [low, high] = wilsonInterval(counts[row]![column]!, counters.tokens)
      return { interval: [low * perToken, high * perToken], n: counters.tokens }
    }
    return heatMap({ id, title, rowTitle: words.layer, columnTitle: words.expert, valueTitle: words.loadAxis, certainty, rows: x, columns: experts(counters), values, high: ends?.load ?? Math.max(2, ...values), format: times, keyOf: (row, column) => `${counters.layers[row]!}/${column}` }, palette)
  }
  const others = counters.saturation.map(({ counts, label }, i) =>
    map(`load-${i}`, fill(words.loadChange, { label }), counters.layers.map((_, layer) => counts.slice(layer * E, (layer + 1) * E))),
  )
  return [
    map('load', words.loadTitle, counters.layers.map((_, layer) => layerCounts(counters, layer, kind))),
    boxChart({ id: 'load-spread', title: words.loadSpread, xTitle: words.layer, yTitle: words.loadAxis, x, boxes: loads.map(({ percentiles }) => percentiles), baseline: { value: 1, name: words.even }, names: [words.minimum, words.quarter, words.median, words.threeQuarters, words.maximum], format: times }, palette),
    lineChart({ id: 'load-levels', title: words.loadLevels, xTitle: words.layer, yTitle: '', x, high: 1, format: plain, series: [{ name: words.utilisation, values: loads.map(({ utilisation }) => utilisation) }, { name: words.loadEntropy, values: loads.map(({ entropy }) => entropy) }, { name: words.routerEntropy, values: counters.entropyMean, dashed: true }] }, palette),
    ...others,
  ]
}

/** Saturation of every checkpoint compared with, one line a layer. Empty without any. */
export function saturationFigures({ counters, words, palette }: FigureContext): Figure[] {
  if (counters.saturation.length === 0) return []
  const points = counters.saturation.toSorted((a, b) => (a.step ?? 0) - (b.step ?? 0))
  return (['topK', 'top1'] as const).map((kind) =>
    lineChart({
      id: `saturation-${kind}`, title: kind === 'topK' ? words.saturationTopK : words.saturationTop1, xTitle: words.checkpoint, yTitle: words.saturationAxis,
      n: points.map(() => counters.tokens),
      x: points.map(({ step, label }) => (step === null ? label : String(step))), high: 1, format: percent, baseline: { value: uniformShare(counters, kind), name: words.chance },
      series: counters.layers.map((layer, i) => ({ name: `${words.layer} ${layer}`, values: points.map((point) => point[kind][i]!), errors: points.map((point) => point[kind === 'topK' ? 'topKError' : 'top1Error'][i]!) })),
    }, palette),
  )
}

/** Experts of a layer in the order of their groups, the ungrouped after them; of many only the strongest. */
export function groupedExperts(counters: RoutingCounters, layer: number, kind: PairKind, most = 32): { order: number[]; groups: number[][] } {
  const matrix = coactivation(counters, layer, kind)
  const groups = expertGroups(matrix, counters.experts, 2 * pairBaseline(counters, kind))
  const shown = new Set(strongestExperts(matrix, counters.experts, most))
  const grouped = groups.flat().filter((e) => shown.has(e))
  return { order: [...grouped, ...[...shown].filter((e) => !grouped.includes(e))], groups }
}

export function coactivationFigure({ counters, words, palette, ends }: FigureContext, layer: number, kind: PairKind, chosen?: readonly number[]): Figure {
  const matrix = coactivation(counters, layer, kind)
  const order = chosen ?? groupedExperts(counters, layer, kind).order
  const { experts: E } = counters
  const values = order.flatMap((a) => order.map((b) => matrix[a * E + b]!))
  const [counts, pairs] = [layerCounts(counters, layer, 'topK'), (kind === 'all' ? counters.pairs : counters.adjacentPairs)[layer]!]
  const certainty = (row: number, column: number): Certainty => {
    const [a, b] = [order[row]!, order[column]!]
    return a === b ? {} : { interval: wilsonInterval(pairs[a * E + b]!, counts[a]!), n: counts[a]! }
  }
  const title = fill(words.coactivation, { layer: counters.layers[layer]! }) + (kind === 'adjacent' ? ` (${words.adjacent})` : '') + ` · ${words.chance} ${percent(pairBaseline(counters, kind))}`
  const names = order.map(String)
  return heatMap({ id: `coactivation-${counters.layers[layer]!}-${kind}`, title, rowTitle: words.expert, columnTitle: words.with, valueTitle: words.shareOfTokens, certainty, rows: names, columns: names, values, high: ends?.coactivation ?? Math.max(0.1, ...values), format: percent, keyOf: (row) => `${counters.layers[layer]!}/${order[row]!}` }, palette)
}

export function flowFigure({ counters, words, palette }: FigureContext, index: number): Figure {
  const flow = counters.flows[index]!
  const [from, to] = [counters.layers[flow.from]!, counters.layers[flow.to]!]
  const side = (layer: number): string => `${words.layer} ${layer}, ${words.expert}`
  return flowDiagram({ id: `flow-${from}-${to}`, title: fill(words.flow, { from, to }), fromTitle: side(from), toTitle: side(to), countTitle: words.tokens, shareTitle: words.shareOfTokens, flows: strongFlows(counters, index, 1.5), total: counters.tokens, format: percent }, palette)
}

export function domainFigure({ counters, words, palette }: FigureContext, layer: number, kind: CountKind): Figure {
  const panels = counters.domains.map(({ name, tokens }, domain) => {
    const { shares, errors } = domainShares(counters, domain, layer, kind)
    return { name, values: shares, errors, n: tokens }
  })
  return barPanels({ id: `domains-${counters.layers[layer]!}-${kind}`, title: fill(words.domains, { layer: counters.layers[layer]! }), xTitle: words.expert, yTitle: words.shareOfTokens, x: experts(counters), panels, baseline: { value: uniformShare(counters, kind), name: words.chance }, format: percent, keyOf: (bar) => `${counters.layers[layer]!}/${bar}` }, palette)
}

const vocabularyVariants: readonly VocabularyVariant[] = ['input', 'predicted', 'truth']

export function vocabularyFigures({ counters, words, palette }: FigureContext, layer: number, kind: CountKind, minimumCount: number): Figure[] {
  const of = (variant: VocabularyVariant) => vocabularyOf(counters, variant, kind, minimumCount)
  return [
    lineChart({ id: `vocabulary-${kind}-${minimumCount}`, title: `${words.vocabulary} (≥ ${minimumCount})`, xTitle: words.layer, yTitle: words.vocabularyAxis, x: counters.layers.map(String), high: 1, format: percent, baseline: { value: uniformShare(counters, kind), name: words.chance }, series: vocabularyVariants.map((variant) => ({ name: `${words[variant]}, n = ${of(variant)?.ids ?? 0}`, values: of(variant)?.byLayer ?? [] })) }, palette),
    barPanels({ id: `vocabulary-experts-${counters.layers[layer]!}`, title: fill(words.vocabularyExperts, { layer: counters.layers[layer]! }), xTitle: words.expert, yTitle: words.vocabularyAxis, x: experts(counters), panels: vocabularyVariants.map((variant) => ({ name: words[variant], values: (of(variant)?.byExpert[layer] ?? []).map((value) => value ?? 0) })), format: percent, keyOf: (bar) => `${counters.layers[layer]!}/${bar}` }, palette),
  ]
}

/** One map a domain; losses that fall are shown as none and told in the value. */
export function ablationFigures(table: Ablation, words: FigureWords, palette: Palette): Figure[] {
  const high = Math.max(1e-6, ...table.domains.flatMap(({ increase }) => increase))
  const E = table.experts
  return table.domains.map(({ name, tokens, increase, increaseError }) => {
    const certainty = (row: number, column: number): Certainty => {
      const [value, half] = [increase[row * E + column]!, 1.96 * increaseError[row * E + column]!]
      return { ...(half > 0 && { interval: [value - half, value + half] }), n: tokens }
    }
    return heatMap({ valueTitle: words.nats, certainty, id: `ablation-${name}`, title: fill(words.ablation, { domain: name }), rowTitle: words.layer, columnTitle: words.expert, rows: table.layers.map(String), columns: experts(table), values: increase, high, format: (value) => `${value >= 0 ? '+' : '−'}${Math.abs(value).toFixed(4)} ${words.nats}`, keyOf: (row, column) => `${table.layers[row]!}/${column}` }, palette)
  })
}

/** Everything, in the order of a report: three layers (first, middle, last) where a figure is of one layer. */
export function allFigures(context: FigureContext): Figure[] {
  const { counters } = context
  const last = counters.layers.length - 1
  const shown = [...new Set([0, Math.floor(last / 2), last])]
  return [
    ...loadFigures(context),
    ...saturationFigures(context),
    ...shown.flatMap((layer) => [coactivationFigure(context, layer, 'all'), coactivationFigure(context, layer, 'adjacent')]),
    ...counters.flows.map((_, i) => flowFigure(context, i)),
    ...shown.flatMap((layer) => [domainFigure(context, layer, 'topK'), domainFigure(context, layer, 'top1')]),
    ...vocabularyFigures(context, shown[1] ?? 0, 'top1', 10),
    vocabularyFigures(context, 0, 'topK', 10)[0]!,
  ]
}

