/**
 * Rows of .jsonl (one value per line) and .json (a list of values, or one value). A list is cut into its elements by bytes, without
 * holding the list, so a file larger than memory is read; an element is found by its brackets and checked by JSON.parse.
 */
import { readBytes } from './bytes.ts'
import { fileError } from './errors.ts'
import type { SourceFile } from './files.ts'
import { invalidUtf8, longestRowBytes, type Row } from './rows.ts'
import { decodeUtf8, readLines } from './text.ts'

function parse(row: number, text: string | null, expected: string): Row {
  if (text === null) return { row, bad: invalidUtf8 }
  try {
    return { row, value: JSON.parse(text) as unknown }
  } catch {
    const start = text.slice(0, 40)
    return { row, bad: { field: null, found: JSON.stringify(text.length > 40 ? `${start}…` : start), expected } }
  }
}

/** One JSON value per line; empty lines are no rows but count as lines. */
export async function* readJsonLinesRows(file: SourceFile): AsyncGenerator<Row> {
  for await (const { row, text } of readLines(file)) {
    if (text !== null && text.trim() === '') continue
    yield parse(row, text, 'one whole JSON value on the line')
  }
}

const [quote, backslash, comma, openList, closeList, openObject, closeObject] = [34, 92, 44, 91, 93, 123, 125]
const isSpace = (byte: number): boolean => byte === 32 || byte === 10 || byte === 13 || byte === 9

/** The elements of a top-level list, or the one value there is; rows count elements. */
export async function* readJsonRows(file: SourceFile): AsyncGenerator<Row> {
  const damaged = (found: string, expected: string, row: number): Error =>
    fileError('source.damagedFile', file.name, found, expected, 'The file is cut or is not JSON: download it again, or open it in an editor. Rows of one JSON value each belong in a .jsonl file.', row)
  let isList = null as boolean | null
  let ended = false
  let [depth, inString, escaped] = [0, false, false]
  let [parts, partBytes, row]: [Buffer[], number, number] = [[], 0, 0]
  const take = (): string | null => {
    const text = decodeUtf8(Buffer.concat(parts))
    ;[parts, partBytes] = [[], 0]
    return text
  }
  for await (const whole of readBytes(file)) {
    const chunk: Buffer = isList === null && whole[0] === 0xef && whole[1] === 0xbb ? whole.subarray(3) : whole
    let start = 0
    const keep = (end: number): void => {
      if (end <= start) return
      parts.push(chunk.subarray(start, end))
      partBytes += end - start
      if (partBytes > longestRowBytes) throw fileError('source.tooLong', file.name, `more than ${longestRowBytes >> 20} MiB in one value`, 'a list of documents', 'Write one document per line into a .jsonl file.', row + 1)
    }
    for (let i = 0; i < chunk.length; i++) {
      const byte: number = chunk[i]!
      if (inString) {
        if (escaped) escaped = false
        else if (byte === backslash) escaped = true
        else if (byte === quote) inString = false
        continue
      }
      if (isList === null) {
        if (isSpace(byte)) continue
        isList = byte === openList
        if (isList) {
          start = i + 1
          continue
        }
        start = i
      }
      if (ended) {
        if (!isSpace(byte)) throw damaged('something after the end of the list', 'one list', row)
        continue
      }
      if (byte === quote) inString = true
      else if (byte === openObject || byte === openList) depth++
      else if (byte === closeObject || (byte === closeList && depth > 0)) depth--
      else if (isList && depth === 0 && (byte === comma || byte === closeList)) {
        keep(i)
        start = i + 1
        const text = take()
        ended = byte === closeList
        if (!(ended && row === 0 && text?.trim() === '')) yield parse(++row, text, 'a JSON value')
      }
      if (depth < 0) throw damaged('a bracket that closes nothing', 'JSON', row + 1)
    }
    if (!ended) keep(chunk.length)
  }
  if (isList === false) yield parse(1, take(), 'one JSON value, or a list of them')
  else if (!ended) throw damaged(`the end of the file after ${row} values`, 'the end of the list, "]"', row + 1)
}
