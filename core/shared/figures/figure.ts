/**
 * What a figure is: a self-contained SVG and the table of the same numbers. Figures are pure functions of data, so that a page, the command line
 * and a report draw the very same thing. Every mark says its value in `data-value` (what hovering and the arrow keys read out) and in a title;
 * marks of data have a place (`data-row`, `data-column`) that the arrow keys go by, and where there is a page about one, its `data-key`.
 */
export type Cell = string | number
export type Figure = { id: string; title: string; svg: string; columns: string[]; rows: Cell[][] }

/** Colours of a figure. `ramp` goes up evenly in lightness, away from the ground, and is read alike by the colour-blind; `series` is Okabe and Ito's set. */
export type Palette = { ink: string; muted: string; grid: string; ground: string; isDark: boolean }
export const lightPalette: Palette = { ink: '#1c1c1f', muted: '#5f6068', grid: '#e2e3e8', ground: '#ffffff', isDark: false }
/** The ground is that of the pages' panels, so that a figure has no edge there. */
export const darkPalette: Palette = { ink: '#f3f6f6', muted: '#9ca5a7', grid: '#272f32', ground: '#13191b', isDark: true }

const okabeIto = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#8c8c00', '#7a7a7a']
export const seriesColour = (index: number): string => okabeIto[index % okabeIto.length]!

type Stops = readonly (readonly [number, number, number])[]
/** Viridis on a dark ground, ColorBrewer's YlGnBu on a light one. */
const viridis: Stops = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]]
const yellowToBlue: Stops = [[255, 255, 237], [199, 233, 180], [65, 182, 196], [34, 94, 168], [8, 29, 88]]
/** The colour of a fraction of the scale. On a light ground more is darker, on a dark one brighter: nothing stands out where there is nothing. */
export function ramp(fraction: number, { isDark }: Pick<Palette, 'isDark'>): string {
  const clamped = Math.min(1, Math.max(0, Number.isFinite(fraction) ? fraction : 0))
  const stops = isDark ? viridis : yellowToBlue
  const at = clamped * (stops.length - 1)
  const low = Math.min(stops.length - 2, Math.floor(at))
  const mix = stops[low]!.map((from, i) => Math.round(from + (at - low) * (stops[low + 1]![i]! - from)))
  return `rgb(${mix.join(',')})`
}

export const escapeXml = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, '·')

/** Percent with as many digits as a reader wants. */
export const percent = (share: number): string => `${(share * 100).toFixed(share < 0.0995 ? 2 : 1)} %`

export type TextStyle = { anchor?: 'start' | 'middle' | 'end'; size?: number; colour?: string; rotate?: boolean; bold?: boolean }
export function text(x: number, y: number, content: string, palette: Palette, { anchor = 'start', size = 11, colour = palette.muted, rotate = false, bold = false }: TextStyle = {}): string {
  const turn = rotate ? ` transform="rotate(-90 ${x} ${y})"` : ''
  return `<text x="${x}" y="${y}" fill="${colour}" font-size="${size}" text-anchor="${anchor}"${bold ? ' font-weight="600"' : ''}${turn}>${escapeXml(content)}</text>`
}

export type MarkPlace = { row: number; column: number; key?: string | undefined }

/** A mark that says its value. `shape` is an element without its closing; without a place it is an aid to reading, not data. */
export function mark(shape: string, value: string, place?: MarkPlace): string {
  const key = place?.key === undefined ? '' : ` data-key="${escapeXml(place.key)}"`
  const at = place ? ` data-row="${place.row}" data-column="${place.column}"${key}` : ''
  return `<${shape} data-value="${escapeXml(value)}"${at}><title>${escapeXml(value)}</title></${shape.slice(0, shape.indexOf(' '))}>`
}

/** A value's 95 % interval and the number of observations it is made of; what is not known is left out. */
export type Certainty = { interval?: readonly [number, number] | undefined; n?: number | undefined }

/** A certainty in words: " (95 %: 0.10–0.12, n = 1234)". */
export function certaintyWords({ interval, n }: Certainty, format: (value: number) => string): string {
  const parts = [...(interval ? [`95 %: ${format(interval[0])} – ${format(interval[1])}`] : []), ...(n === undefined ? [] : [`n = ${n}`])]
  return parts.length > 0 ? ` (${parts.join(', ')})` : ''
}

/** Width that a title needs. */
export const titleWidth = (title: string): number => 24 + 7.6 * title.length

/** The whole SVG around its marks. */
export function canvas(width: number, height: number, title: string, palette: Palette, content: string): string {
  const font = 'ui-sans-serif, system-ui, sans-serif'
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeXml(title)}" font-family="${font}"><rect width="${width}" height="${height}" fill="${palette.ground}"/>${content}</svg>`
}

/** Round tick values from 0 (or `low`) to at least `high`. */
export function ticks(low: number, high: number, count = 4): number[] {
  const span = Math.max(1e-9, high - low)
  const rough = span / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!
  const values: number[] = []
  for (let value = Math.ceil(low / step) * step; value <= high + step * 0.001; value += step) values.push(Number(value.toPrecision(12)))
  return values
}

/** The table as a file for spreadsheets (RFC 4180). */
export function toCsv({ columns, rows }: Pick<Figure, 'columns' | 'rows'>): string {
  const field = (cell: Cell): string => (typeof cell === 'string' && /[",\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : String(cell))
  return `${[columns, ...rows].map((row) => row.map(field).join(',')).join('\r\n')}\r\n`
}
