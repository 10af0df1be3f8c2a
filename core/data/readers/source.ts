/**
 * A source of files as the documents it gives: finds the files, settles the field mapping by a look at the first rows, and streams.
 * Bad rows are counted, and tolerated up to the number that the source allows; the same files give the same documents in the same order.
 */
import { createHash } from 'node:crypto'
import { AppError } from '#core/shared/errors.ts'
import type { Mapping, SourceReport, SourceSpec } from '#core/shared/sources.ts'
import type { Document, Source } from '../documents.ts'
import { readCsvRows } from './csv.ts'
import { badRowError, type BadRow } from './errors.ts'
import { expectedTextBytes, findFiles, type FoundFiles, type SourceFile } from './files.ts'
import { readJsonLinesRows, readJsonRows } from './json.ts'
import { describeFields, guessMapping, mapRow } from './mapping.ts'
import { readParquetRows } from './parquet.ts'
import type { Row } from './rows.ts'
import { readWhole } from './text.ts'

const sampledRows = 200
const keptBadRows = 20
const exampleCount = 3

export type BadRows = SourceReport['badRows']

/** Hears of a row that is skipped. */
export type BadRowListener = (bad: BadRows[number]) => void

export type FileSource = Omit<Source, 'documents'> & {
  spec: SourceSpec
  found: FoundFiles
  mapping: Mapping | null
  /** Whether any of its files is source code: the code filters are for those. */
  isCode: boolean
  /** Streams the documents; `onBadRow` hears of every row that is skipped, `onRead` of the bytes on disk read so far, of all files.
   * Throws source.badRow, source.tooManyBadRows and what readers throw. */
  documents(onBadRow?: BadRowListener, onRead?: (bytes: number) => void): AsyncGenerator<Document>
}

/** The rows of a file; of Parquet only the columns that `mapping` needs, all for null. */
export function readRows(file: SourceFile, mapping: Mapping | null): AsyncGenerator<Row> {
  switch (file.format) {
    case 'text':
    case 'code':
      return readWhole(file)
    case 'jsonl':
      return readJsonLinesRows(file)
    case 'json':
      return readJsonRows(file)
    case 'csv':
      return readCsvRows(file)
    case 'parquet':
      return readParquetRows(file, mapping === null ? null : [mapping.text, mapping.id, mapping.stars].filter((path) => path !== null).map((path) => path.split('.')[0]!))
  }
}

const isWhole = ({ format }: SourceFile): boolean => format === 'text' || format === 'code'

/** The first good rows of the source's row files. */
export async function sampleRows(files: readonly SourceFile[]): Promise<{ rows: unknown[]; file: string } | null> {
  const rowFiles = files.filter((file) => !isWhole(file))
  for (const file of rowFiles) {
    const rows: unknown[] = []
    for await (const row of readRows(file, null)) {
      if ('value' in row) rows.push(row.value)
      if (rows.length >= sampledRows) break
    }
    if (rows.length > 0) return { rows, file: file.name }
  }
  if (rowFiles.length > 0) throw new AppError('source.empty', `${rowFiles[0]!.name}: found no row, expected at least one`, { params: { file: rowFiles[0]!.name, found: 'no row', expected: 'at least one row' }, hint: 'Look into the file: it has a header only, or no row can be read.' })
  return null
}

/** Whether rows are texts themselves (a list of strings): then there is nothing to map. */
const areTexts = (rows: readonly unknown[]): boolean => rows.every((row) => typeof row === 'string')

export type OpenedSource = { source: FileSource; fields: SourceReport['fields'] }

/** Opens a source whose relative paths start at `base`. Throws what findFiles and guessMapping throw. */
export async function openSource(spec: SourceSpec, base: string): Promise<OpenedSource> {
  const found = findFiles(spec.paths, base, spec.format)
  const sample = await sampleRows(found.files)
  const fields = sample === null ? [] : describeFields(sample.rows)
  const mapping = sample === null || areTexts(sample.rows) ? null : (spec.mapping ?? guessMapping(fields, sample.file))
  const source: FileSource = {
    name: spec.name,
    licence: spec.licence,
    spec,
    found,
    mapping,
    isCode: found.files.some(({ format }) => format === 'code') || mapping?.stars != null,
    documents: (onBadRow, onRead) => readDocuments(spec, found.files, mapping, onBadRow, onRead),
  }
  return { source, fields }
}

async function* readDocuments(spec: SourceSpec, files: readonly SourceFile[], mapping: Mapping | null, onBadRow?: BadRowListener, onRead: (bytes: number) => void = () => undefined): AsyncGenerator<Document> {
  let bad = 0
  let finishedBytes = 0
  const skip = (file: SourceFile, row: number, what: BadRow): void => {
    const error = badRowError(file.name, row, what)
    if (spec.skipBadRows === 0) throw error
    if (++bad > spec.skipBadRows) {
      throw new AppError('source.tooManyBadRows', `${error.message}; ${bad} bad rows in source ${spec.name}, at most ${spec.skipBadRows} are to be skipped`, { params: { ...error.params, source: spec.name, count: bad, limit: spec.skipBadRows }, hint: 'Allow more bad rows to be skipped, or look at the file: the chosen field may be wrong.' })
    }
    onBadRow?.({ file: file.name, row, field: what.field, message: error.message, found: what.found, expected: what.expected })
  }
  for (const file of files) {
    const whole = isWhole(file)
    for await (const row of readRows({ ...file, onRead: (bytes) => onRead(finishedBytes + bytes) }, mapping)) {
      if ('bad' in row) {
        skip(file, row.row, row.bad)
        continue
      }
      const mapped = mapRow(row.value, whole ? null : mapping, whole ? file.name : `${file.name}#${row.row}`)
      if ('bad' in mapped) skip(file, row.row, mapped.bad)
      else yield mapped.document
    }
    finishedBytes += file.sizeBytes
  }
}

/** Looks at a source: the first rows only, or with `complete` all of it, which gives counts, fingerprint and every bad row's number. */
export async function inspectSource(spec: SourceSpec, base: string, options: { complete: boolean; onProgress?: (documents: number) => void }): Promise<SourceReport> {
  const { source, fields } = await openSource(spec, base)
  const badRows: BadRows = []
  const examples: SourceReport['examples'] = []
  const hash = createHash('sha256')
  let [documents, textBytes, badRowCount] = [0, 0, 0]
  for await (const { id, text } of source.documents((bad) => ++badRowCount <= keptBadRows && badRows.push(bad))) {
    if (examples.length < exampleCount) examples.push({ id, text: text.slice(0, 400) })
    else if (!options.complete) break
    const bytes = Buffer.byteLength(text)
    hash.update(`${JSON.stringify([id, bytes])}\n`).update(text)
    documents++
    textBytes += bytes
    if (documents % 1000 === 0) options.onProgress?.(documents)
  }
  const { files, leftOut } = source.found
  const counts = options.complete ? { documents, textBytes, fingerprint: hash.digest('hex') } : { documents: null, textBytes: null, fingerprint: null }
  return {
    name: spec.name,
    licence: spec.licence,
    files: files.length,
    sizeBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    expectedTextBytes: expectedTextBytes(files),
    formats: [...new Set(files.map(({ format }) => format))],
    leftOut: leftOut.slice(0, 100),
    mapping: source.mapping,
    fields,
    ...counts,
    badRows,
    badRowCount,
    examples,
  }
}
