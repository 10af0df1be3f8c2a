/**
 * Documents and sources, as a mix is built from: a source is one domain's documents in a fixed order, streamed as often as asked.
 * Also the reader of the sample's JSON lines; sources of any other files are opened by readers/source.ts.
 */
import { createReadStream } from 'node:fs'
import { AppError } from '#core/shared/errors.ts'

/** `id` is unique in its source and names where the text came from; `stars` are of the repository of code. */
export type Document = { id: string; text: string; stars?: number }

export type Source = {
  /** Domain name: letters, digits, "-" or "_"; it names files. */
  name: string
  licence: string
  documents(): AsyncIterable<Document>
}

function rowError(path: string, row: number, what: string): AppError {
  return new AppError('documents.badRow', `${path}, row ${row}: ${what}`, {
    params: { file: path, row, found: what },
    hint: 'Every row is one JSON object with the strings "id" and "text".',
  })
}

/** Lines ended by \n or \r\n. (readline would also cut at U+2028, which may stand unescaped in a JSON string.) */
async function* readLines(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = ''
  for await (const chunk of chunks) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!
    yield* lines
  }
  if (rest !== '') yield rest
}

/** Streams {id, text} rows of a .jsonl file; empty rows are skipped. Throws AppError `documents.badRow` or `file.unreadable`. */
export async function* readJsonLines(path: string): AsyncGenerator<Document> {
  const stream = createReadStream(path, { encoding: 'utf8', highWaterMark: 1 << 20 })
  let row = 0
  try {
    for await (const line of readLines(stream as AsyncIterable<string>)) {
      row++
      if (line.trim() === '') continue
      let value: unknown
      try {
        value = JSON.parse(line)
      } catch {
        throw rowError(path, row, 'not JSON')
      }
      const { id, text } = (value ?? {}) as { id?: unknown; text?: unknown }
      if (typeof id !== 'string') throw rowError(path, row, `"id" is ${typeof id}, expected a string`)
      if (typeof text !== 'string') throw rowError(path, row, `"text" is ${typeof text}, expected a string`)
      yield { id, text }
    }
  } catch (error) {
    if (error instanceof AppError || (error as NodeJS.ErrnoException).code === undefined) throw error
    throw new AppError('file.unreadable', `${path} cannot be read`, { params: { file: path }, hint: 'Check the path and its permissions.', cause: error })
  } finally {
    stream.destroy()
  }
}
