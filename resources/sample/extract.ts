/**
 * From packed files to clean documents: one extractor per kind of file in the sample. An extractor takes out what is not the text
 * (licence headers, tags, generated parts) and cuts along natural borders. No file, no network, same input same output.
 */
import type { Document } from '#core/data/documents.ts'
import type { PackedFile } from './tar.ts'
import { readZip } from './zip.ts'

export type Extractor = (file: PackedFile) => Document[]

/** Parts of long files are about this long. */
const partLength = 24_000

/** Line ends as \n, no trailing blanks, at most two empty lines in a row, one newline at the end. */
function tidy(text: string): string {
  const lines = text.replace(/\r\n?/g, '\n').replace(/^\uFEFF/, '').replace(/[^\S\n]+$/gm, '')
  return `${lines.replace(/\n{4,}/g, '\n\n\n').trim()}\n`
}

const decode = ({ bytes }: PackedFile): string => new TextDecoder('utf-8', { fatal: true }).decode(bytes)

/** Cuts at the given border whenever a part is long enough. */
function splitLong(text: string, border: RegExp): string[] {
  const parts: string[] = []
  let part = ''
  for (const piece of text.split(border)) {
    part += piece
    if (part.length < partLength) continue
    parts.push(part)
    part = ''
  }
  return part.trim() === '' ? parts : [...parts, part]
}

const plain: Extractor = (file) => [{ id: file.path, text: tidy(decode(file)) }]

/** Markdown without its YAML head's fences, HTML comments and badges. */
const markdown: Extractor = (file) => {
  const text = decode(file)
    .replace(/^---\n([^]*?)\n---\n/, (_, head: string) => {
      const title = /^title: *["']?(.*?)["']?$/m.exec(head)?.[1] ?? ''
      const description = /^description: *["']?(.*?)["']?$/m.exec(head)?.[1] ?? ''
      return `${title}\n\n${description}\n`
    })
    .replace(/<!--[^]*?-->/g, '')
  return [{ id: file.path, text: tidy(text) }]
}

/** A source file without the licence comment at its top; tests, fixtures and files that hold next to nothing stay out. */
const code: Extractor = (file) => {
  if (/\.(test|spec|fixture)\.|__fixtures__|__snapshots__/.test(file.path) || file.bytes.length < 200) return []
  return [{ id: file.path, text: tidy(decode(file).replace(/^\s*\/\*[^]*?(licen[cs]e|copyright)[^]*?\*\/\s*/i, '')) }]
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ' }

function stripTags(html: string): string {
  const text = html.replace(/<br\s*\/?>|<\/p>/gi, '\n').replace(/<[^>]+>/g, '')
  return text.replace(/&(amp|lt|gt|quot|apos|nbsp);/g, (_, name: string) => entities[name]!).replace(/[^\S\n]+/g, ' ').trim()
}

/** The leaves `text` of a factbook section as lines "field, subfield: text"; those whose letters were lost upstream (U+FFFD) stay out. */
function factLines(value: unknown, path: readonly string[]): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, inner]) => {
    if (key === 'text') return typeof inner === 'string' && inner !== '' && !inner.includes('\ufffd') ? [`${path.join(', ')}: ${stripTags(inner)}`] : []
    return factLines(inner, [...path, key])
  })
}

const factbook: Extractor = (file) => {
  const sections = JSON.parse(decode(file)) as Record<string, Record<string, Record<string, { text?: string }>>>
  const names = sections.Government?.['Country name'] ?? {}
  const name = stripTags(names['conventional short form']?.text ?? names['conventional long form']?.text ?? '')
  const body = Object.entries(sections).map(([title, fields]) => `${title}\n\n${factLines(fields, []).join('\n')}`)
  return [{ id: file.path, text: tidy([/^(none)?$/.test(name) ? '' : name, ...body].join('\n\n')) }]
}

/** The modules of Python's standard library in their zip archive; character tables, tests and generated data stay out. */
const pythonLibrary: Extractor = (file) => {
  const skipped = /^_sysconfigdata|^encodings\/|^pydoc_data\/|(^|\/)tests?\//
  const modules = [...readZip(file.bytes, file.path)].filter(({ path }) => path.endsWith('.py') && !skipped.test(path))
  return modules.flatMap((module) => code(module))
}

/** SQLite's amalgamation cut back into its files; long ones are cut before a comment block of the top level. */
const sqlite: Extractor = (file) => {
  const textOf = new Map<string, string>()
  const pieces = decode(file).split(/^\/\*{4,} (?:Begin file|Continuing where we left off in) (\S+) \*+\/\n/m)
  for (let i = 1; i + 1 < pieces.length; i += 2) textOf.set(pieces[i]!, (textOf.get(pieces[i]!) ?? '') + pieces[i + 1]!)
  return [...textOf].flatMap(([name, text]) => {
    const body = text
      .replace(/^\/\*{4,} End of .*\n/gm, '')
      .replace(/^\s*\/\*\n\*\* [^\n]*\n\*\*\n\*\* The author disclaims copyright[^]*?\*{20,}\n/, '/*\n')
    const parts = splitLong(body, /(?<=\n)(?=\/\*\n)/)
    return parts.map((part, k): Document => ({ id: parts.length === 1 ? name : `${name}#${k + 1}`, text: tidy(part) }))
  })
}

/** Introduction, usage and notes of an stdlib README, formulas as $$…$$; templates, C interface, links and examples stay out. */
const stdlib: Extractor = (file) => {
  const text = decode(file)
    .replace(/<!--\s*<equation[^>]*?raw="([^"]*)"[^>]*?>\s*-->/g, (_, formula: string) => `$$${formula}$$\n`)
    .replace(/<section class="(examples|c|related|links|references)">[^]*?<!-- \/\.\1 -->/g, '')
    .replace(/<!--[^]*?-->/g, '')
    .replace(/<div class="equation"[^]*?<\/div>(\s*-->)?/g, '')
    .replace(/```javascript\nvar \w+ = require\([^\n]*\n```\n/g, '')
    .replace(/^\[[^\]]+\]: .*$/gm, '')
    .replace(/\[(`[^`]*`|[^\][]+)\]\[[^\]]*\]/g, '$1')
    .replace(/^\* \* \*$/gm, '')
    .replace(/^#+ (Usage|Examples|Notes)$/gm, '')
    .replace(/<\/?[a-z][^>]*>/g, '')
    .replace(/&(amp|lt|gt|quot|apos|nbsp);/g, (_, name: string) => entities[name]!)
  const clean = tidy(text).replace(/\n{3,}/g, '\n\n')
  return clean.length < 300 ? [] : [{ id: file.path, text: clean }]
}

export const extractors: Readonly<Record<string, Extractor>> = { plain, markdown, code, factbook, pythonLibrary, sqlite, stdlib }
