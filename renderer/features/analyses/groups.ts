/** Which figures a result shows, by question. A group without figures (nothing compared, one layer only) is left out. */
import { coactivationFigure, domainFigure, flowFigure, loadFigures, saturationFigures, vocabularyFigures, type FigureContext } from '#core/shared/figures/routing-figures.ts'
import type { Figure } from '#core/shared/figures/figure.ts'

export const figureGroups = ['load', 'coactivation', 'domains', 'vocabulary', 'saturation', 'flows'] as const
export type FigureGroup = (typeof figureGroups)[number]

/** A token id that occurs less often says little about an expert; the table of the paper asks for as many. */
const minimumCount = 10

/** Figures of one layer are of `layer`, an index of the counters' layers; flows are those that leave it. */
export function groupedFigures(context: FigureContext, layer: number): { group: FigureGroup; figures: Figure[] }[] {
  const flows = context.counters.flows.flatMap(({ from }, index) => (from === layer ? [flowFigure(context, index)] : []))
  const figures: Record<FigureGroup, Figure[]> = {
    load: loadFigures(context),
    coactivation: [coactivationFigure(context, layer, 'all')],
    domains: [domainFigure(context, layer, 'topK')],
    vocabulary: vocabularyFigures(context, layer, 'topK', minimumCount),
    saturation: saturationFigures(context),
    flows,
  }
  return figureGroups.map((group) => ({ group, figures: figures[group] })).filter((one) => one.figures.length > 0)
}
