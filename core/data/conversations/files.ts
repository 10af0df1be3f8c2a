/**
 * Conversations of files as examples: finds the files, settles the mapping by a look at the first rows, streams. Bad rows end the reading with
 * file, row and field, unless some may be skipped.
 */
import type { ConversationMapping } from '#core/shared/adaptation.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Field } from '#core/shared/sources.ts'
import { badRowError } from '../readers/errors.ts'
import { baseOf, findFiles, type SourceFile } from '../readers/files.ts'
import { describeFields } from '../readers/mapping.ts'
import { readRows, sampleRows } from '../readers/source.ts'
import { guessConversations, mapExample, type Example } from './rows.ts'

export type ConversationFiles = {
  files: SourceFile[]
  mapping: ConversationMapping
  fields: Field[]
  examples(): AsyncGenerator<Example>
}

/** Opens absolute `paths`. Throws what findFiles throws, source.noConversation, and while reading source.badRow. */
export async function openConversations(paths: readonly string[], given: ConversationMapping | null, skipBadRows: number): Promise<ConversationFiles> {
  const { files } = findFiles(paths, baseOf(paths))
  const rowFiles = files.filter(({ format }) => format !== 'text' && format !== 'code')
  const sample = await sampleRows(rowFiles)
  if (sample === null) {
    const file = files[0]!.name
    throw new AppError('source.noConversation', `${file}: found text, expected rows`, { params: { file, found: 'text', expected: 'a .jsonl, .json, .csv or .parquet file' }, hint: 'Conversations are rows with fields.' })
  }
  const fields = describeFields(sample.rows)
  const mapping = given ?? guessConversations(fields, sample.file)
  return { files: rowFiles, mapping, fields, examples: () => readExamples(rowFiles, mapping, skipBadRows) }
}

async function* readExamples(files: readonly SourceFile[], mapping: ConversationMapping, skipBadRows: number): AsyncGenerator<Example> {
  let bad = 0
  for (const file of files) {
    for await (const row of readRows(file, null)) {
      const mapped = 'bad' in row ? row : mapExample(row.value, mapping)
      if ('example' in mapped) yield mapped.example
      else if (++bad > skipBadRows) throw badRowError(file.name, row.row, mapped.bad)
    }
  }
}
