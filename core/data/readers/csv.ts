/**
 * Rows of .csv and .tsv after RFC 4180: a first row of names, fields quoted where they hold the separator, quotes or line ends. The
 * separator (comma, semicolon, tab) is the one that the first row has most of. Row numbers are the lines on which rows begin.
 */
import { fileError } from './errors.ts'
import type { SourceFile } from './files.ts'
import { invalidUtf8, longestRowBytes, type Row } from './rows.ts'
import { readLines } from './text.ts'

function separatorOf(header: string): string {
  const outside = header.replace(/"[^"]*"/g, '')
  const count = (character: string): number => outside.split(character).length
  return [',', '\t', ';'].reduce((best, candidate) => (count(candidate) > count(best) ? candidate : best))
}

/** The fields of one record; null while a quoted field is still open at its end, text for what is wrong with it. */
function splitRecord(record: string, separator: string): string[] | string | null {
  const fields: string[] = []
  let at = 0
  for (;;) {
    if (record[at] === '"') {
      let value = ''
      for (let from = at + 1; ; ) {
        const close = record.indexOf('"', from)
        if (close < 0) return null
        value += record.slice(from, close)
        if (record[close + 1] !== '"') {
          at = close + 1
          break
        }
        value += '"'
        from = close + 2
      }
      fields.push(value)
      if (at < record.length && record[at] !== separator) return `${JSON.stringify(record[at])} after a closing quote`
    } else {
      const end = record.indexOf(separator, at)
      fields.push(record.slice(at, end < 0 ? record.length : end))
      at = end < 0 ? record.length : end
    }
    if (at >= record.length) return fields
    at++
  }
}

/** Whether the quotes of a record so far leave a field open: cheap, so that a long quoted field is not split again at each line. */
function oddQuotes(text: string): boolean {
  let odd = false
  for (let at = text.indexOf('"'); at >= 0; at = text.indexOf('"', at + 1)) odd = !odd
  return odd
}

export async function* readCsvRows(file: SourceFile): AsyncGenerator<Row> {
  let names: string[] | null = null
  let separator = ','
  let [pending, pendingRow, pendingLength, isOpen]: [string[], number, number, boolean] = [[], 0, 0, false]
  for await (const { row, text } of readLines(file)) {
    if (text === null) {
      yield { row, bad: invalidUtf8 }
      ;[pending, pendingLength, isOpen] = [[], 0, false]
      continue
    }
    if (pending.length === 0) {
      if (text.trim() === '') continue
      pendingRow = row
    }
    pending.push(text)
    pendingLength += text.length
    if (oddQuotes(text)) isOpen = !isOpen
    if (isOpen) {
      if (pendingLength > longestRowBytes) throw fileError('source.tooLong', file.name, 'a quoted field that does not end', 'a closing quote', 'Look for a quote that is not doubled.', pendingRow)
      continue
    }
    const record = pending.join('\n')
    ;[pending, pendingLength] = [[], 0]
    if (names === null) separator = separatorOf(record)
    const fields = splitRecord(record, separator)
    if (names === null) {
      if (!Array.isArray(fields) || fields.some((name) => name.trim() === '')) throw fileError('source.wrongFormat', file.name, JSON.stringify(record.slice(0, 60)), 'a first row with a name for every column', 'Add a header row.', pendingRow)
      names = fields.map((name) => name.trim())
    } else if (!Array.isArray(fields)) yield { row: pendingRow, bad: { field: null, found: fields ?? 'an open quote', expected: 'quotes around whole fields' } }
    else if (fields.length !== names.length) yield { row: pendingRow, bad: { field: null, found: `${fields.length} fields`, expected: `${names.length} fields, as in the first row` } }
    else yield { row: pendingRow, value: Object.fromEntries(names.map((name, i) => [name, fields[i]!])) }
  }
  if (pending.length > 0) throw fileError('source.damagedFile', file.name, 'the end of the file inside a quoted field', 'a closing quote', 'The file is cut, or a quote is not doubled.', pendingRow)
}
