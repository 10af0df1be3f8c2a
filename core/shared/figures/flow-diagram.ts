/** Flows of tokens between the experts of two layers as ribbons: what their first choices are in one layer and in the other. */
import { canvas, mark, seriesColour, text, type Figure, type Palette } from './figure.ts'

export type FlowData = {
  id: string
  title: string
  fromTitle: string
  toTitle: string
  /** Names the column of counts in the table. */
  countTitle: string
  /** Names what the line below says: how much of all tokens the drawn flows carry. */
  shareTitle: string
  flows: { from: number; to: number; count: number; share: number }[]
  total: number
  format(share: number): string
}

/** Places nodes one under another, each as high as what goes through it. */
function place(flows: FlowData['flows'], side: 'from' | 'to', height: number, total: number): Map<number, { y: number; size: number; used: number }> {
  const sums = new Map<number, number>()
  for (const flow of flows) sums.set(flow[side], (sums.get(flow[side]) ?? 0) + flow.count)
  const gap = Math.min(12, height / 4 / Math.max(1, sums.size))
  const scale = (height - gap * (sums.size - 1)) / Math.max(1, total)
  let y = 0
  const places = new Map<number, { y: number; size: number; used: number }>()
  for (const [node, sum] of [...sums].sort(([a], [b]) => a - b)) {
    places.set(node, { y, size: sum * scale, used: 0 })
    y += sum * scale + gap
  }
  return places
}

export function flowDiagram(data: FlowData, palette: Palette): Figure {
  const shown = data.flows.reduce((sum, { count }) => sum + count, 0)
  const nodes = Math.max(new Set(data.flows.map(({ from }) => from)).size, new Set(data.flows.map(({ to }) => to)).size, 1)
  const [width, top] = [560, 62]
  const inner = Math.max(160, Math.min(900, nodes * 24))
  const [left, right] = [place(data.flows, 'from', inner, shown), place(data.flows, 'to', inner, shown)]
  const scale = (side: typeof left, node: number, count: number): number => {
    const sum = data.flows.reduce((total, flow) => total + (flow[side === left ? 'from' : 'to'] === node ? flow.count : 0), 0)
    return (side.get(node)!.size * count) / sum
  }
  const ribbons = data.flows.toSorted((a, b) => a.from - b.from || a.to - b.to).map((flow, i) => {
    const [a, b] = [left.get(flow.from)!, right.get(flow.to)!]
    const [sizeA, sizeB] = [scale(left, flow.from, flow.count), scale(right, flow.to, flow.count)]
    const [y1, y2] = [top + a.y + a.used, top + b.y + b.used]
    a.used += sizeA
    b.used += sizeB
    const [x1, x2, mid] = [90, width - 90, width / 2]
    const path = `M${x1} ${y1}C${mid} ${y1} ${mid} ${y2} ${x2} ${y2}L${x2} ${y2 + sizeB}C${mid} ${y2 + sizeB} ${mid} ${y1 + sizeA} ${x1} ${y1 + sizeA}Z`
    return mark(`path d="${path}" fill="${seriesColour(flow.from)}" fill-opacity="0.45"`, `${data.fromTitle} ${flow.from} → ${data.toTitle} ${flow.to}: ${flow.count} (${data.format(flow.share)})`, { row: i, column: 0 })
  })
  const labels = (side: typeof left, x: number, anchor: 'start' | 'end'): string[] =>
    [...side].flatMap(([node, { y, size }]) => [`<rect x="${anchor === 'end' ? x + 4 : x - 10}" y="${top + y}" width="6" height="${Math.max(1, size)}" fill="${palette.muted}"/>`, text(anchor === 'end' ? x : x, top + y + size / 2 + 4, String(node), palette, { anchor, size: 10 })])
  const content = [
    text(12, 20, data.title, palette, { size: 13, colour: palette.ink, bold: true }),
    text(90, top - 12, data.fromTitle, palette), text(width - 90, top - 12, data.toTitle, palette, { anchor: 'end' }),
    ...ribbons, ...labels(left, 80, 'end'), ...labels(right, width - 78, 'start'),
    text(12, top + inner + 24, data.total > 0 ? `${data.shareTitle}: ${data.format(shown / data.total)}` : '', palette, { size: 10 }),
  ].join('')
  return { id: data.id, title: data.title, svg: canvas(width, top + inner + 34, data.title, palette, content), columns: [data.fromTitle, data.toTitle, data.countTitle, '%'], rows: data.flows.map(({ from, to, count, share }) => [from, to, count, share * 100]) }
}
