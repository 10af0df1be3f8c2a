/** A matrix as coloured cells with its scale: co-activation, load by layer, ablation. Diverging data are given as their size and a sign in the value. */
import { canvas, certaintyWords, mark, ramp, text, titleWidth, type Certainty, type Figure, type Palette } from './figure.ts'

export type HeatMapData = {
  id: string
  title: string
  rowTitle: string
  columnTitle: string
  rows: string[]
  columns: string[]
  /** Row-major. */
  values: number[]
  /** End of the scale. */
  high: number
  format(value: number): string
  /** How sure a cell is; the table then has one row a cell. */
  certainty?(row: number, column: number): Certainty
  /** What the table calls the value. */
  valueTitle?: string
  /** Marks a cell's element so that a page can follow a click: `data-key`. */
  keyOf?(row: number, column: number): string
}

export function heatMap(data: HeatMapData, palette: Palette): Figure {
  const { rows, columns, values, high, format } = data
  const cell = Math.max(9, Math.min(26, Math.floor(720 / Math.max(columns.length, 1))))
  const [left, top] = [28 + 7 * Math.max(...rows.map((name) => name.length), 2), 46]
  const [width, height] = [Math.max(left + Math.max(cell * columns.length, 240) + 16, titleWidth(data.title)), top + cell * rows.length + 64]
  const every = (count: number): number => Math.ceil((count * 14) / (count * cell + 1))
  const cells = rows.flatMap((row, r) =>
    columns.map((column, c) => {
      const value = values[r * columns.length + c]!
      const words = `${data.rowTitle} ${row} · ${data.columnTitle} ${column}: ${format(value)}${data.certainty ? certaintyWords(data.certainty(r, c), format) : ''}`
      return mark(`rect x="${left + c * cell}" y="${top + r * cell}" width="${cell - 1}" height="${cell - 1}" fill="${ramp(value / high, palette)}"`, words, { row: r, column: c, key: data.keyOf?.(r, c) })
    }),
  )
  const rowLabels = rows.map((row, r) => (r % every(rows.length) === 0 ? text(left - 5, top + r * cell + cell / 2 + 4, row, palette, { anchor: 'end', size: 10 }) : ''))
  const step = Math.max(every(columns.length), Math.ceil((7 * Math.max(...columns.map((name) => name.length))) / cell))
  const columnLabels = columns.map((column, c) => (c % step === 0 ? text(left + c * cell + cell / 2, top + rows.length * cell + 13, column, palette, { anchor: 'middle', size: 10 }) : ''))
  const scaleY = height - 22
  const scale = Array.from({ length: 60 }, (_, i) => `<rect x="${left + i * 3}" y="${scaleY}" width="3.2" height="9" fill="${ramp(i / 59, palette)}"/>`)
  const content = [
    text(12, 20, data.title, palette, { size: 13, colour: palette.ink, bold: true }),
    text(left, top - 8, `${data.columnTitle} →`, palette),
    text(12, top + (cell * rows.length) / 2, data.rowTitle, palette, { rotate: true, anchor: 'middle' }),
    ...cells, ...rowLabels, ...columnLabels, ...scale,
    text(left, scaleY + 19, format(0), palette, { size: 10 }),
    text(left + 186, scaleY + 9, format(high), palette, { size: 10 }),
  ].join('')
  return { id: data.id, title: data.title, svg: canvas(width, height, data.title, palette, content), ...tableOf(data) }
}

/** The matrix as it stands, or where cells are more or less sure one row each. */
function tableOf({ rows, columns, values, rowTitle, columnTitle, valueTitle = '', certainty }: HeatMapData): Pick<Figure, 'columns' | 'rows'> {
  if (!certainty) return { columns: [rowTitle, ...columns], rows: rows.map((row, r) => [row, ...values.slice(r * columns.length, (r + 1) * columns.length)]) }
  const cells = rows.flatMap((row, r) => columns.map((column, c) => {
    const { interval, n } = certainty(r, c)
    return [row, column, values[r * columns.length + c]!, interval?.[0] ?? '', interval?.[1] ?? '', n ?? '']
  }))
  return { columns: [rowTitle, columnTitle, valueTitle, '95 % from', '95 % to', 'n'], rows: cells }
}
