/** The figures of one expert: its share of every domain against chance, and the gates that it gets. */
import { histogramBins } from '../analyses.ts'
import { domainShares, uniformShare } from '../routing-statistics.ts'
import { barPanels } from './charts.ts'
import { percent, type Figure } from './figure.ts'
import type { FigureContext } from './routing-figures.ts'

/** `layer` is an index of the counters' layers. */
export function expertFigures({ counters, words, palette }: FigureContext, layer: number, expert: number): Figure[] {
  const id = `${counters.layers[layer]!}-${expert}`
  const n = counters.domains.map(({ tokens }) => tokens)
  const panel = (kind: 'topK' | 'top1', name: string) => {
    const of = counters.domains.map((_, domain) => domainShares(counters, domain, layer, kind))
    return { name, values: of.map(({ shares }) => shares[expert]!), errors: of.map(({ errors }) => errors[expert]!), n }
  }
  const counts = counters.gateHistogram[layer]!.slice(expert * histogramBins, (expert + 1) * histogramBins)
  const chosen = counts.reduce((a, b) => a + b, 0)
  const bins = counts.map((_, bin) => `${Math.round((100 * bin) / histogramBins)}`)
  return [
    barPanels({ id: `expert-domains-${id}`, title: words.expertDomains, xTitle: words.domain, yTitle: words.shareOfTokens, x: counters.domains.map(({ name }) => name), panels: [panel('topK', `k = ${counters.topK}`), panel('top1', words.first)], baseline: { value: uniformShare(counters, 'topK'), name: words.chance }, format: percent }, palette),
    barPanels({ id: `expert-gates-${id}`, title: words.expertGates, xTitle: words.gate, yTitle: words.shareOfTokens, x: bins, panels: [{ name: `n = ${chosen}`, values: counts.map((count) => (chosen > 0 ? count / chosen : 0)), n: counts }], format: percent }, palette),
  ]
}
