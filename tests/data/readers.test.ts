/** Sources of files: every format, plain and packed; what is wrong with a file is said with file, row, field, found and expected. */
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { expect, onTestFinished, test } from 'vitest'
import type { Document } from '#core/data/documents.ts'
import { findFiles } from '#core/data/readers/files.ts'
import { inspectSource, openSource, type BadRows } from '#core/data/readers/source.ts'
import { AppError } from '#core/shared/errors.ts'
import { sourceSpecSchema, type SourceSpec } from '#core/shared/sources.ts'

function folderWith(files: Record<string, string | Uint8Array>): string {
  const folder = mkdtempSync(join(tmpdir(), 'moe-readers-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), content)
  }
  return folder
}
const spec = (paths: string[], more: Partial<SourceSpec> = {}): SourceSpec => sourceSpecSchema.parse({ name: 'source', paths, ...more })

async function readAll(folder: string, given: SourceSpec, onBadRow?: (bad: BadRows[number]) => void): Promise<Document[]> {
  const documents: Document[] = []
  const { source } = await openSource(given, folder)
  for await (const document of source.documents(onBadRow)) documents.push(document)
  return documents
}
async function errorOf(folder: string, paths: string[], more: Partial<SourceSpec> = {}): Promise<AppError> {
  const error = await readAll(folder, spec(paths, more)).then(() => null, (thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(AppError)
  expect((error as AppError).hint).not.toBe('')
  return error as AppError
}

const texts = ['One.\nTwo lines.', 'Zwei "Worte", durch Komma', '三 \u2028 four', 'x'.repeat(300_000)]
const ids = texts.map((_, i) => `id${i}`)
const rows = texts.map((text, i) => ({ id: ids[i]!, text }))
const csvField = (value: string): string => `"${value.replaceAll('"', '""')}"`
const formats: Record<string, string | Uint8Array> = {
  'a.jsonl': rows.map((row) => JSON.stringify(row)).join('\n'),
  'a.json': JSON.stringify(rows, null, 2),
  'a.csv': `id,text\r\n${rows.map(({ id, text }) => `${id},${csvField(text)}`).join('\r\n')}\r\n`,
  'a.tsv': `id\ttext\n${rows.map(({ id, text }) => `${id}\t${csvField(text)}`).join('\n')}`,
}

test('the same documents come out of every format, plain, .gz and .zst', async () => {
  const parquet = new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'id', data: ids, type: 'STRING' }, { name: 'n', data: [1, 2, 3, 4], type: 'INT32' }, { name: 'text', data: texts, type: 'STRING' }], rowGroupSize: 3 }))
  for (const [name, content] of Object.entries(formats)) {
    const folder = folderWith({ [name]: content, [`${name}.gz`]: gzipSync(content), [`${name}.zst`]: zstdCompressSync(content) })
    for (const file of [name, `${name}.gz`, `${name}.zst`]) expect(await readAll(folder, spec([file])), file).toEqual(rows)
  }
  const folder = folderWith({ 'a.parquet': parquet, 'text.txt': texts[0]!, 'notes.md.gz': gzipSync(texts[1]!), 'code.py.zst': zstdCompressSync(texts[2]!) })
  expect(await readAll(folder, spec(['a.parquet']))).toEqual(rows)
  expect(await readAll(folder, spec(['*.txt', '*.gz', '*.zst']))).toEqual([{ id: 'code.py.zst', text: texts[2] }, { id: 'notes.md.gz', text: texts[1] }, { id: 'text.txt', text: texts[0] }])
})

test('folders and globs: one order, hidden, empty and foreign files are left out and said', async () => {
  const folder = folderWith({ 'b/2.txt': 'b2', 'b/10.txt': 'b10', 'a.md': 'a', '.hidden.txt': 'no', 'b/empty.txt': '', 'b/picture.png': 'x', 'node_modules/p/i.js': 'no' })
  const { files, leftOut } = findFiles(['.'], folder)
  expect(files.map(({ name }) => name)).toEqual(['a.md', 'b/10.txt', 'b/2.txt'])
  expect(leftOut.sort((x, y) => (x.file < y.file ? -1 : 1))).toEqual([{ file: 'b/empty.txt', reason: 'empty' }, { file: 'b/picture.png', reason: 'unknown kind of file' }])
  expect(findFiles(['b/*.txt', 'b/2.txt'], folder).files.map(({ name }) => name)).toEqual(['b/10.txt', 'b/2.txt'])
  expect(() => findFiles(['c'], folder)).toThrow(/c: found nothing/)
  expect(() => findFiles(['*.rs'], folder)).toThrow(/found nothing/)
  expect(() => findFiles(['b/picture.png'], folder)).toThrow(/no format/)
  expect(findFiles(['b/picture.png'], folder, 'text').files).toHaveLength(1)
})

test('the fields are found by looking at rows and can be corrected', async () => {
  const records = [1, 2, 3].map((n) => ({ title: 'short', meta: { stars: n, note: 'n' }, payload: `a much longer text ${n}`, chat: [{ role: 'user', content: 'Hi' }, { role: 'assistant', content: `Ho ${n}` }] }))
  const folder = folderWith({ 'a.jsonl': records.map((record) => JSON.stringify(record)).join('\n'), 'c.jsonl': '{"messages":[{"from":"human","value":"Q"},{"from":"gpt","value":"A"}]}', 'strings.json': '["one", "two"]' })
  const report = await inspectSource(spec(['a.jsonl']), folder, { complete: true })
  expect(report).toMatchObject({ files: 1, formats: ['jsonl'], mapping: { text: 'payload', id: null, stars: 'meta.stars' }, documents: 3, textBytes: 60 })
  expect(report.fields.find(({ path }) => path === 'meta.stars')).toMatchObject({ types: ['number'], present: 1, example: '1' })
  expect(report.examples[0]).toEqual({ id: 'a.jsonl#1', text: 'a much longer text 1' })
  expect((await inspectSource(spec(['a.jsonl']), folder, { complete: false })).documents).toBeNull()
  expect(await readAll(folder, spec(['a.jsonl'], { mapping: { text: 'chat', id: 'meta.stars', stars: null } }))).toContainEqual({ id: '2', text: '<|user|>\nHi\n<|assistant|>\nHo 2' })
  expect(await readAll(folder, spec(['c.jsonl']))).toEqual([{ id: 'c.jsonl#1', text: '<|user|>\nQ\n<|assistant|>\nA' }])
  expect((await readAll(folder, spec(['strings.json']))).map(({ text }) => text)).toEqual(['one', 'two'])
  const wrong = await errorOf(folder, ['a.jsonl'], { mapping: { text: 'txet', id: null, stars: null } })
  expect(wrong).toMatchObject({ code: 'source.badRow', params: { file: 'a.jsonl', row: 1, field: 'txet', found: 'nothing', expected: 'a text' } })
})

test('the fingerprint is of ids and texts: packing does not change it, a letter does', async () => {
  const content = formats['a.jsonl']!
  const folder = folderWith({ 'a.jsonl': content, 'b.jsonl.gz': gzipSync(content), 'c.jsonl': String(content).replace('Zwei', 'zwei') })
  const [a, b, c] = await Promise.all(['a.jsonl', 'b.jsonl.gz', 'c.jsonl'].map((path) => inspectSource(spec([path]), folder, { complete: true })))
  expect(a!.fingerprint).toBe(b!.fingerprint)
  expect(a!.fingerprint).not.toBe(c!.fingerprint)
})

test('bad rows are named; a chosen number of them is skipped and reported', async () => {
  const lines = ['{"text":"one"}', '{"text":', '{"text":7}', '', '{"text":"two"}']
  const folder = folderWith({
    'a.jsonl': lines.join('\n'),
    'bytes.jsonl': Buffer.concat([Buffer.from('{"text":"one"}\n{"text":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}\n{"text":"two"}')]),
    'a.csv': 'id,text\n1,one\n2\n3,"tw"o\n4,four\n',
    'list.json': '[{"text":"one"}, {"text" "x"}, {"text":"two"}]',
  })
  expect(await errorOf(folder, ['a.jsonl'])).toMatchObject({ code: 'source.badRow', params: { file: 'a.jsonl', row: 2, expected: 'one whole JSON value on the line' } })
  const bad: BadRows = []
  expect(await readAll(folder, spec(['a.jsonl'], { skipBadRows: 2 }), (one) => bad.push(one))).toEqual([{ id: 'a.jsonl#1', text: 'one' }, { id: 'a.jsonl#5', text: 'two' }])
  expect(bad.map(({ row, field }) => [row, field])).toEqual([[2, null], [3, 'text']])
  expect(await errorOf(folder, ['a.jsonl'], { skipBadRows: 1 })).toMatchObject({ code: 'source.tooManyBadRows', params: { row: 3, count: 2, limit: 1 } })
  expect(await errorOf(folder, ['bytes.jsonl'])).toMatchObject({ code: 'source.badRow', params: { row: 2, expected: 'UTF-8 text' } })
  expect(await errorOf(folder, ['a.csv'])).toMatchObject({ code: 'source.badRow', params: { row: 3, found: '1 fields' } })
  expect((await readAll(folder, spec(['a.csv'], { skipBadRows: 5 }))).map(({ id }) => id)).toEqual(['1', '4'])
  expect(await errorOf(folder, ['list.json'])).toMatchObject({ code: 'source.badRow', params: { row: 2 } })
})

test('files that are damaged, empty, binary or something else are refused by name', async () => {
  const packed = gzipSync('{"text":"one"}\n'.repeat(5000))
  const zstd = zstdCompressSync('{"text":"one"}\n'.repeat(5000))
  const parquet = Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'text', data: texts, type: 'STRING' }] }))
  const folder = folderWith({
    'cut.jsonl.gz': packed.subarray(0, packed.length - 12), 'cut.jsonl.zst': zstd.subarray(0, zstd.length - 3), 'no.jsonl.gz': 'plain text', 'hidden.jsonl': packed,
    'empty.txt': '', 'binary.txt': Buffer.from([1, 0, 2]), 'utf16.txt': Buffer.from('\ufeffhi', 'utf16le'), 'latin.txt': Buffer.from('caf\xe9', 'latin1'),
    'cut.json': '[{"text":"one"},', 'cut.csv': 'id,text\n1,"one', 'cut.parquet': parquet.subarray(0, parquet.length - 50), 'no.parquet': 'plain text', 'numbers.jsonl': '{"n":1}\n', 'header.csv': 'id,text\n',
  })
  const expected: Record<string, [string, RegExp]> = {
    'cut.jsonl.gz': ['source.damagedFile', /cut archive/], 'cut.jsonl.zst': ['source.damagedFile', /cut archive/], 'no.jsonl.gz': ['source.damagedFile', /gzip archive/], 'hidden.jsonl': ['source.wrongFormat', /gzip data/],
    'empty.txt': ['source.emptyFile', /no bytes/], 'binary.txt': ['source.wrongFormat', /binary/], 'utf16.txt': ['source.wrongFormat', /UTF-16/], 'latin.txt': ['source.badRow', /UTF-8/],
    'cut.json': ['source.damagedFile', /end of the list/], 'cut.csv': ['source.damagedFile', /quoted/], 'cut.parquet': ['source.damagedFile', /Parquet/], 'no.parquet': ['source.damagedFile', /Parquet/], 'numbers.jsonl': ['source.noText', /n \(number\)/], 'header.csv': ['source.empty', /no row/],
  }
  for (const [file, [code, words]] of Object.entries(expected)) {
    const error = await errorOf(folder, [file])
    expect([error.code, error.params['file']], file).toEqual([code, file])
    expect(error.message).toMatch(words)
  }
})

test('a file that changes or vanishes while it is read is refused', async () => {
  const many = Array.from({ length: 40_000 }, (_, i) => JSON.stringify({ text: `document ${i} ${'word '.repeat(10)}` })).join('\n')
  const folder = folderWith({ 'a.jsonl': many, 'b.jsonl': many, 'c.jsonl': many })
  const { source } = await openSource(spec(['a.jsonl']), folder)
  const read = async (): Promise<void> => {
    let n = 0
    for await (const _ of source.documents()) if (n++ === 10) appendFileSync(join(folder, 'a.jsonl'), '\n{"text":"more"}')
  }
  await expect(read()).rejects.toMatchObject({ code: 'source.changed', params: { file: 'a.jsonl' } })
  const both = (await openSource(spec(['b.jsonl', 'c.jsonl']), folder)).source
  rmSync(join(folder, 'c.jsonl'))
  await expect((async () => { for await (const _ of both.documents()) continue })()).rejects.toMatchObject({ code: 'source.changed', params: { file: 'c.jsonl', found: 'no such file' } })
})
