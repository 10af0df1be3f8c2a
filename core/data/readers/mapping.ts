/**
 * From a row to a document: which field is the text, guessed by looking at rows, and its value by path. A list of chat turns is one text
 * in OLMoE's chat format. What does not fit is a bad row that names the field.
 */
import { AppError } from '#core/shared/errors.ts'
import type { Field, Mapping } from '#core/shared/sources.ts'
import type { Document } from '../documents.ts'
import { describeValue, type BadRow } from './errors.ts'

const usualTextNames = ['text', 'content', 'raw_content', 'document', 'body', 'code', 'article', 'story', 'abstract', 'messages', 'conversations']
const usualIdNames = ['id', 'doc_id', 'uuid', '_id', 'url']
const usualStarsNames = ['max_stars_count', 'stars', 'star_count', 'stargazers_count', 'repo_stars', 'max_stars_repo_stars_count']

type Turn = { role?: unknown; from?: unknown; content?: unknown; value?: unknown }

/** The value at a path; a name that itself has dots is found first. */
export function valueAt(row: unknown, path: string): unknown {
  if (typeof row !== 'object' || row === null) return undefined
  if (Object.hasOwn(row, path)) return (row as Record<string, unknown>)[path]
  const dot = path.indexOf('.')
  return dot < 0 ? undefined : valueAt((row as Record<string, unknown>)[path.slice(0, dot)], path.slice(dot + 1))
}

/** OLMoE's chat format, with the end of text after every answer left to whoever trains on chats. */
function turnsToText(turns: readonly Turn[]): string | null {
  const roles: Record<string, string> = { human: 'user', gpt: 'assistant' }
  let text = ''
  for (const turn of turns) {
    const [role, content] = [turn?.role ?? turn?.from, turn?.content ?? turn?.value]
    if (typeof role !== 'string' || typeof content !== 'string') return null
    text += `<|${roles[role] ?? role}|>\n${content}\n`
  }
  return text.trim()
}

export type MappedRow = { document: Document } | { bad: BadRow }

/** The document of a row; `fallbackId` names it when no field does. A row that is a bare string is its own text. */
export function mapRow(value: unknown, mapping: Mapping | null, fallbackId: string): MappedRow {
  if (mapping === null) return typeof value === 'string' ? { document: { id: fallbackId, text: value } } : { bad: { field: null, found: describeValue(value), expected: 'a text' } }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { bad: { field: mapping.text, found: describeValue(value), expected: 'an object with that field' } }
  }
  const field = valueAt(value, mapping.text)
  const text = typeof field === 'string' ? field : Array.isArray(field) ? turnsToText(field as Turn[]) : null
  if (text === null) return { bad: { field: mapping.text, found: describeValue(field), expected: Array.isArray(field) ? 'a list of turns with role and content' : 'a text' } }
  const id = mapping.id === null ? undefined : valueAt(value, mapping.id)
  if (mapping.id !== null && typeof id !== 'string' && typeof id !== 'number') return { bad: { field: mapping.id, found: describeValue(id), expected: 'a text or a number' } }
  const stars = mapping.stars === null ? undefined : valueAt(value, mapping.stars)
  const count = stars === undefined || stars === null || stars === '' ? null : Number(stars)
  if (count !== null && !Number.isFinite(count)) return { bad: { field: mapping.stars!, found: describeValue(stars), expected: 'a number' } }
  return { document: { id: id === undefined ? fallbackId : String(id), text, ...(count !== null && { stars: count }) } }
}

type Seen = { types: Map<string, number>; count: number; characters: number; strings: number; example: string }

const typeOf = (value: unknown): string => (value === null ? 'null' : Array.isArray(value) ? 'list' : typeof value)

/** What fields sampled rows have, one level of nesting deep, in order of appearance. */
export function describeFields(rows: readonly unknown[]): Field[] {
  const seen = new Map<string, Seen>()
  const look = (value: unknown, prefix: string, depth: number): void => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return
    for (const [name, inner] of Object.entries(value)) {
      const path = prefix + name
      const field = seen.get(path) ?? { types: new Map<string, number>(), count: 0, characters: 0, strings: 0, example: '' }
      seen.set(path, field)
      field.count++
      field.types.set(typeOf(inner), (field.types.get(typeOf(inner)) ?? 0) + 1)
      if (typeof inner === 'string') [field.strings, field.characters] = [field.strings + 1, field.characters + inner.length]
      if (field.example === '' && inner !== null && inner !== '') field.example = (typeof inner === 'string' ? inner : (JSON.stringify(inner) ?? '')).slice(0, 120)
      if (depth < 1) look(inner, `${path}.`, depth + 1)
    }
  }
  rows.forEach((row) => look(row, '', 0))
  return [...seen].map(([path, { types, count, characters, strings, example }]) => ({
    path,
    types: [...types].sort((a, b) => b[1] - a[1]).map(([type]) => type),
    present: count / rows.length,
    meanLength: strings === 0 ? null : characters / strings,
    example,
  }))
}

/** Chooses the fields: a usual name that holds text, else the longest text. Throws source.noText with the fields that there are. */
export function guessMapping(fields: readonly Field[], file: string): Mapping {
  const named = (names: readonly string[], fits: (field: Field) => boolean): string | undefined =>
    names.map((name) => fields.find((field) => field.path.toLowerCase() === name || field.path.toLowerCase().endsWith(`.${name}`))).find((field) => field !== undefined && fits(field))?.path
  const isText = ({ types, present }: Field): boolean => types[0] === 'string' && present > 0.5
  const isTurns = ({ path, types }: Field): boolean => /(messages|conversations)$/i.test(path) && types[0] === 'list'
  const longest = fields.filter(isText).sort((a, b) => (b.meanLength ?? 0) - (a.meanLength ?? 0))[0]?.path
  const text = named(usualTextNames, (field) => isText(field) || isTurns(field)) ?? longest
  if (text === undefined) {
    const found = fields.map(({ path, types }) => `${path} (${types[0]})`).join(', ') || 'no fields'
    throw new AppError('source.noText', `${file}: found ${found}, expected a field with text`, { params: { file, found, expected: 'a field with text' }, hint: 'Say which field is the text with the source’s mapping.' })
  }
  const id = named(usualIdNames, ({ types, present }) => present === 1 && types.length === 1 && (types[0] === 'string' || types[0] === 'number'))
  return { text, id: id ?? null, stars: named(usualStarsNames, ({ types }) => types[0] === 'number') ?? null }
}
