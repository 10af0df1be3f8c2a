/** Files that are one document (text and code), and files of lines. Invalid UTF-8 is found at its row, never replaced. */
import { readBytes } from './bytes.ts'
import { fileError } from './errors.ts'
import type { SourceFile } from './files.ts'
import { invalidUtf8, longestRowBytes, type Row } from './rows.ts'

const newline = 10

function tooLong(file: SourceFile, row: number): Error {
  return fileError('source.tooLong', file.name, `more than ${longestRowBytes >> 20} MiB in one piece`, 'documents of a reasonable length', 'Split it into smaller documents.', row)
}

/** Decodes strictly; null for what is not UTF-8. A byte order mark is dropped. */
export function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return null
  }
}

/** The whole file as one row. */
export async function* readWhole(file: SourceFile): AsyncGenerator<Row> {
  const chunks: Buffer[] = []
  let sizeBytes = 0
  for await (const chunk of readBytes(file)) {
    sizeBytes += chunk.length
    if (sizeBytes > longestRowBytes) throw tooLong(file, 1)
    chunks.push(chunk)
  }
  const text = decodeUtf8(Buffer.concat(chunks))
  yield text === null ? { row: 1, bad: invalidUtf8 } : { row: 1, value: text }
}

export type Line = { row: number; text: string | null }

/** Lines ended by \n or \r\n, decoded one by one; null where a line is not UTF-8. Throws source.tooLong. */
export async function* readLines(file: SourceFile): AsyncGenerator<Line> {
  let rest: Buffer[] = []
  let restBytes = 0
  let row = 0
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const line = (bytes: Uint8Array): Line => {
    row++
    const end = bytes.length > 0 && bytes[bytes.length - 1] === 13 ? bytes.length - 1 : bytes.length
    try {
      return { row, text: decoder.decode(bytes.subarray(0, end)) }
    } catch {
      return { row, text: null }
    }
  }
  for await (const chunk of readBytes(file)) {
    let start = 0
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      const piece = chunk.subarray(start, end)
      yield line(rest.length === 0 ? piece : Buffer.concat([...rest, piece]))
      if (rest.length > 0) [rest, restBytes] = [[], 0]
      start = end + 1
    }
    if (start < chunk.length) {
      rest.push(chunk.subarray(start))
      restBytes += chunk.length - start
      if (restBytes > longestRowBytes) throw tooLong(file, row + 1)
    }
  }
  if (rest.length > 0) yield line(Buffer.concat(rest))
}
