/** A report as one HTML file that needs nothing else: facts, every figure, and under each its table. No script, no font, no address. */
import { escapeXml, type Figure } from './figure.ts'

export type Report = { title: string; language: string; facts: [name: string, value: string][]; notes: string[]; tableWord: string; figures: readonly Figure[] }

const style = `body{font:15px/1.5 ui-sans-serif,system-ui,sans-serif;max-width:980px;margin:2rem auto;padding:0 1rem;color:#1c1c1f}h1{font-size:1.5rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem}dt{color:#5f6068}dd{margin:0;font-variant-numeric:tabular-nums}
figure{margin:1.5rem 0;overflow-x:auto}table{border-collapse:collapse;font-size:12px;font-variant-numeric:tabular-nums}td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #e2e3e8}
th:first-child,td:first-child{text-align:left}details{margin-top:.4rem}summary{cursor:pointer;color:#5f6068}@media print{details{display:none}figure{break-inside:avoid}}`

const cell = (value: string | number): string => escapeXml(typeof value === 'number' && !Number.isInteger(value) ? value.toPrecision(4) : String(value))

function figureHtml({ svg, columns, rows }: Figure, tableWord: string): string {
  const head = `<tr>${columns.map((name) => `<th scope="col">${cell(name)}</th>`).join('')}</tr>`
  const body = rows.map((row) => `<tr>${row.map((value) => `<td>${cell(value)}</td>`).join('')}</tr>`).join('\n')
  return `<figure>${svg}<details><summary>${escapeXml(tableWord)}</summary><table><thead>${head}</thead><tbody>${body}</tbody></table></details></figure>`
}

export function reportHtml({ title, language, facts, notes, tableWord, figures }: Report): string {
  return `<!doctype html>
<html lang="${escapeXml(language)}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escapeXml(title)}</title><style>${style}</style></head>
<body><h1>${escapeXml(title)}</h1>
<dl>${facts.map(([name, value]) => `<dt>${escapeXml(name)}</dt><dd>${escapeXml(value)}</dd>`).join('')}</dl>
${notes.map((note) => `<p>${escapeXml(note)}</p>`).join('\n')}
${figures.map((figure) => figureHtml(figure, tableWord)).join('\n')}
</body></html>
`
}
