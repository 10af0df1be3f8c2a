/** Lines over an ordered axis (saturation, vocabulary by layer), bars with a line of chance (specialization), boxes (load by layer). */
import { canvas, certaintyWords, mark, seriesColour, text, ticks, titleWidth, type Figure, type Palette } from './figure.ts'

type Frame = { width: number; height: number; left: number; right: number; top: number; bottom: number }
const frame = (width: number, height: number): Frame => ({ width, height, left: 54, right: 16, top: 56, bottom: 40 })

/** Title, grid and vertical axis. Gives the marks and the place of a value. */
function axes(f: Frame, title: string, yTitle: string, low: number, high: number, format: (value: number) => string, palette: Palette): { marks: string[]; y(value: number): number } {
  const y = (value: number): number => f.height - f.bottom - ((value - low) / Math.max(1e-12, high - low)) * (f.height - f.bottom - f.top)
  const marks = [text(12, 20, title, palette, { size: 13, colour: palette.ink, bold: true }), text(12, 36, yTitle, palette)]
  for (const tick of ticks(low, high)) {
    marks.push(`<line x1="${f.left}" x2="${f.width - f.right}" y1="${y(tick)}" y2="${y(tick)}" stroke="${palette.grid}"/>`, text(f.left - 6, y(tick) + 4, format(tick), palette, { anchor: 'end', size: 10 }))
  }
  return { marks, y }
}

function legend(names: readonly string[], f: Frame, palette: Palette, dashed: (index: number) => boolean): string {
  let x = f.left
  return names
    .map((name, i) => {
      const at = x
      x += 34 + 6.6 * name.length
      if (x > f.width + 14) return ''
      return `<line x1="${at}" x2="${at + 16}" y1="${f.top - 9}" y2="${f.top - 9}" stroke="${seriesColour(i)}" stroke-width="2.5"${dashed(i) ? ' stroke-dasharray="5 3"' : ''}/>${text(at + 20, f.top - 5, name, palette, { size: 10 })}`
    })
    .join('')
}

export type LineData = {
  id: string
  title: string
  xTitle: string
  yTitle: string
  x: string[]
  series: { name: string; values: (number | null)[]; errors?: number[]; dashed?: boolean }[]
  /** Observations behind every point of x, where they are known. */
  n?: number[]
  /** A level that chance alone gives, with its name. */
  baseline?: { value: number; name: string }
  high?: number
  format(value: number): string
}

export function lineChart(data: LineData, palette: Palette): Figure {
  const f = frame(Math.max(500, titleWidth(data.title), Math.min(860, 120 + 44 * data.x.length)), 300)
  const all = data.series.flatMap(({ values }) => values).filter((value) => value !== null)
  const high = data.high ?? Math.max(...all, data.baseline?.value ?? 0, 1e-9) * 1.06
  const low = Math.min(0, ...all)
  const { marks, y } = axes(f, data.title, data.yTitle, low, high, data.format, palette)
  const x = (i: number): number => f.left + ((i + 0.5) / data.x.length) * (f.width - f.left - f.right)
  if (data.baseline) {
    const at = y(data.baseline.value)
    marks.push(mark(`line x1="${f.left}" x2="${f.width - f.right}" y1="${at}" y2="${at}" stroke="${palette.muted}" stroke-dasharray="2 3"`, `${data.baseline.name}: ${data.format(data.baseline.value)}`))
    marks.push(text(f.width - f.right, at - 4, data.baseline.name, palette, { anchor: 'end', size: 10 }))
  }
  data.series.forEach(({ name, values, errors, dashed }, s) => {
    const colour = seriesColour(s)
    const known = values.flatMap((value, i) => (value === null ? [] : [[i, value] as const]))
    marks.push(`<polyline fill="none" stroke="${colour}" stroke-width="2"${dashed ? ' stroke-dasharray="5 3"' : ''} points="${known.map(([i, value]) => `${x(i)},${y(value)}`).join(' ')}"/>`)
    for (const [i, value] of known) {
      const error = errors?.[i]
      if (error) marks.push(`<line x1="${x(i)}" x2="${x(i)}" y1="${y(value - 1.96 * error)}" y2="${y(value + 1.96 * error)}" stroke="${colour}"/>`)
      marks.push(mark(`circle cx="${x(i)}" cy="${y(value)}" r="3.2" fill="${colour}"`, `${name} · ${data.xTitle} ${data.x[i]!}: ${data.format(value)}${error ? ` ± ${data.format(1.96 * error)}` : ''}${certaintyWords({ n: data.n?.[i] }, data.format)}`, { row: s, column: i }))
    }
  })
  const step = Math.ceil((data.x.length * 7 * Math.max(...data.x.map((name) => name.length), 1)) / (f.width - f.left - f.right))
  marks.push(...data.x.map((name, i) => (i % step === 0 ? text(x(i), f.height - f.bottom + 14, name, palette, { anchor: 'middle', size: 10 }) : '')), text((f.left + f.width) / 2, f.height - 8, data.xTitle, palette, { anchor: 'middle' }))
  marks.push(legend(data.series.map(({ name }) => name), f, palette, (i) => data.series[i]!.dashed === true))
  const errorColumns = data.series.flatMap(({ name, errors }) => (errors ? [name, `${name} ± 95 %`] : [name]))
  const rows = data.x.map((name, i) => [name, ...data.series.flatMap(({ values, errors }) => (errors ? [values[i] ?? '', 1.96 * errors[i]!] : [values[i] ?? '']))])
  return { id: data.id, title: data.title, svg: canvas(f.width, f.height, data.title, palette, marks.join('')), columns: [data.xTitle, ...errorColumns, ...(data.n ? ['n'] : [])], rows: rows.map((row, i) => (data.n ? [...row, data.n[i]!] : row)) }
}

export type BarData = {
  id: string
  title: string
  xTitle: string
  yTitle: string
  x: string[]
  /** One row of bars each, on one scale. */
  panels: { name: string; values: number[]; errors?: number[]; /** Observations of the panel, or of each bar. */ n?: number | number[] }[]
  baseline?: { value: number; name: string }
  format(value: number): string
  keyOf?(bar: number): string
}

export function barPanels(data: BarData, palette: Palette): Figure {
  const panelHeight = 96
  const f = { ...frame(Math.max(420, Math.min(900, 80 + 24 * data.x.length)), 0), bottom: 22 }
  const height = f.top + data.panels.length * (panelHeight + 26) + 22
  const high = Math.max(...data.panels.flatMap(({ values, errors }) => values.map((value, i) => value + 1.96 * (errors?.[i] ?? 0))), (data.baseline?.value ?? 0) * 1.2, 1e-9)
  const slot = (f.width - f.left - f.right) / data.x.length
  const marks = [text(12, 20, data.title, palette, { size: 13, colour: palette.ink, bold: true }), text(12, 36, data.yTitle, palette)]
  data.panels.forEach(({ name, values, errors, n }, p) => {
    const floor = f.top + p * (panelHeight + 26) + panelHeight
    const y = (value: number): number => floor - (value / high) * (panelHeight - 14)
    marks.push(text(f.left, floor - panelHeight + 6, name, palette, { colour: palette.ink }))
    for (const tick of ticks(0, high, 2)) marks.push(`<line x1="${f.left}" x2="${f.width - f.right}" y1="${y(tick)}" y2="${y(tick)}" stroke="${palette.grid}"/>`, text(f.left - 6, y(tick) + 4, data.format(tick), palette, { anchor: 'end', size: 10 }))
    values.forEach((value, i) => {
      const [at, error] = [f.left + i * slot, errors?.[i] ?? 0]
      const words = `${name} · ${data.xTitle} ${data.x[i]!}: ${data.format(value)}${error > 0 ? ` ± ${data.format(1.96 * error)}` : ''}${certaintyWords({ n: typeof n === 'object' ? n[i] : n }, data.format)}`
      marks.push(mark(`rect x="${at + slot * 0.12}" y="${y(value)}" width="${slot * 0.76}" height="${Math.max(0, floor - y(value))}" fill="${seriesColour(0)}"`, words, { row: p, column: i, key: data.keyOf?.(i) }))
      if (error > 0) marks.push(`<line x1="${at + slot / 2}" x2="${at + slot / 2}" y1="${y(Math.max(0, value - 1.96 * error))}" y2="${y(value + 1.96 * error)}" stroke="${palette.ink}" stroke-opacity="0.55"/>`)
    })
    if (data.baseline) marks.push(mark(`line x1="${f.left}" x2="${f.width - f.right}" y1="${y(data.baseline.value)}" y2="${y(data.baseline.value)}" stroke="${palette.ink}" stroke-dasharray="4 3"`, `${data.baseline.name}: ${data.format(data.baseline.value)}`))
    const step = Math.ceil(20 / slot)
    data.x.forEach((label, i) => i % step === 0 && marks.push(text(f.left + (i + 0.5) * slot, floor + 13, label, palette, { anchor: 'middle', size: 10 })))
  })
  marks.push(text((f.left + f.width) / 2, height - 6, data.xTitle, palette, { anchor: 'middle' }))
  if (data.baseline) marks.push(text(f.width - f.right, 36, `- - ${data.baseline.name} ${data.format(data.baseline.value)}`, palette, { anchor: 'end', size: 10 }))
  return { id: data.id, title: data.title, svg: canvas(f.width, height, data.title, palette, marks.join('')), ...barTable(data) }
}

function barTable({ xTitle, x, panels }: BarData): Pick<Figure, 'columns' | 'rows'> {
  const columns = panels.flatMap(({ name, errors, n }) => [name, ...(errors ? [`${name} ± 95 %`] : []), ...(n === undefined ? [] : [`${name} n`])])
  const cells = (i: number): number[] => panels.flatMap(({ values, errors, n }) => [values[i]!, ...(errors ? [1.96 * errors[i]!] : []), ...(n === undefined ? [] : [typeof n === 'object' ? n[i]! : n])])
  return { columns: [xTitle, ...columns], rows: x.map((label, i) => [label, ...cells(i)]) }
}

export type BoxData = { id: string; title: string; xTitle: string; yTitle: string; x: string[]; /** Minimum, quartiles, maximum. */ boxes: [number, number, number, number, number][]; baseline: { value: number; name: string }; names: string[]; format(value: number): string }

export function boxChart(data: BoxData, palette: Palette): Figure {
  const f = frame(Math.max(420, Math.min(860, 120 + 40 * data.x.length)), 280)
  const { marks, y } = axes(f, data.title, data.yTitle, 0, Math.max(...data.boxes.flat(), data.baseline.value) * 1.06, data.format, palette)
  const slot = (f.width - f.left - f.right) / data.x.length
  data.boxes.forEach(([low, q1, median, q3, high], i) => {
    const middle = f.left + (i + 0.5) * slot
    const half = Math.min(14, slot * 0.3)
    const words = `${data.xTitle} ${data.x[i]!}: ${data.boxes[i]!.map((value, k) => `${data.names[k]!} ${data.format(value)}`).join(', ')}`
    marks.push(`<line x1="${middle}" x2="${middle}" y1="${y(low)}" y2="${y(high)}" stroke="${seriesColour(0)}" stroke-width="1.5"/>`)
    marks.push(mark(`rect x="${middle - half}" y="${y(q3)}" width="${2 * half}" height="${Math.max(1, y(q1) - y(q3))}" fill="${seriesColour(0)}" fill-opacity="0.75"`, words, { row: 0, column: i }))
    marks.push(`<line x1="${middle - half}" x2="${middle + half}" y1="${y(median)}" y2="${y(median)}" stroke="${palette.ground}" stroke-width="2"/>`, text(middle, f.height - f.bottom + 14, data.x[i]!, palette, { anchor: 'middle', size: 10 }))
  })
  const at = y(data.baseline.value)
  marks.push(`<line x1="${f.left}" x2="${f.width - f.right}" y1="${at}" y2="${at}" stroke="${palette.ink}" stroke-dasharray="4 3"/>`, text(f.width - f.right, at - 4, data.baseline.name, palette, { anchor: 'end', size: 10 }), text((f.left + f.width) / 2, f.height - 8, data.xTitle, palette, { anchor: 'middle' }))
  return { id: data.id, title: data.title, svg: canvas(f.width, f.height, data.title, palette, marks.join('')), columns: [data.xTitle, ...data.names], rows: data.x.map((label, i) => [label, ...data.boxes[i]!]) }
}
