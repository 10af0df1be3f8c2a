/**
 * Thousands of damaged files thrown at the readers: each gives documents or an AppError that names the file, soon, and nothing else:
 * no crash, no hang, no foreign error. The damage is drawn from one seed; a failure names its case.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { expect, test } from 'vitest'
import { openSource } from '#core/data/readers/source.ts'
import { AppError } from '#core/shared/errors.ts'
import { createRandom, type Random } from '#core/shared/random.ts'
import { sourceSpecSchema } from '#core/shared/sources.ts'

/** Fewer of Parquet: a decoder that loops has to be waited for. */
const casesOf = (name: string): number => (name.endsWith('.parquet') ? 100 : 350)
/** A little more than the time that a decoder is given, twice: once to look, once to read. */
const slowestMs = 10_000

const texts = Array.from({ length: 40 }, (_, i) => `Text ${i}: "quoted", with commas, ümläüts, 中文 and\nlines.`)
const rows = texts.map((text, i) => ({ id: `id${i}`, text, meta: { stars: i } }))
const jsonl = rows.map((row) => JSON.stringify(row)).join('\n')
const parquet = (codec: 'SNAPPY' | 'UNCOMPRESSED'): Buffer =>
  Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'id', data: rows.map(({ id }) => id), type: 'STRING' }, { name: 'text', data: texts, type: 'STRING' }], codec, rowGroupSize: 16 }))
const whole: Record<string, Buffer> = {
  'a.txt': Buffer.from(texts.join('\n')),
  'a.py.gz': gzipSync(texts.join('\n')),
  'a.jsonl': Buffer.from(jsonl),
  'a.jsonl.gz': gzipSync(jsonl),
  'a.jsonl.zst': zstdCompressSync(jsonl),
  'a.json': Buffer.from(JSON.stringify(rows)),
  'a.csv': Buffer.from(`id,text\n${rows.map(({ id, text }) => `${id},"${text.replaceAll('"', '""')}"`).join('\n')}`),
  'a.csv.zst': zstdCompressSync(`id;text\n${rows.map(({ id }) => `${id};text`).join('\n')}`),
  'plain.parquet': parquet('UNCOMPRESSED'),
  'snappy.parquet': parquet('SNAPPY'),
}

/** One to four of: cut, bits flipped, bytes replaced, a piece taken out, repeated, or of noise put in. */
function damage(bytes: Buffer, random: Random): Buffer {
  let damaged = Buffer.from(bytes)
  for (let n = 1 + random.nextBelow(4); n > 0 && damaged.length > 0; n--) {
    const at = random.nextBelow(damaged.length)
    const length = Math.min(damaged.length - at, 1 + random.nextBelow(40))
    const [head, piece, tail] = [damaged.subarray(0, at), damaged.subarray(at, at + length), damaged.subarray(at + length)]
    const noise = Buffer.from(Array.from({ length }, () => random.nextBelow(256)))
    const kind = random.nextBelow(6)
    if (kind === 0) damaged = Buffer.from(head)
    else if (kind === 1) damaged[at]! ^= 1 << random.nextBelow(8)
    else if (kind === 2) damaged = Buffer.concat([head, noise, tail])
    else if (kind === 3) damaged = Buffer.concat([head, tail])
    else if (kind === 4) damaged = Buffer.concat([head, piece, piece, tail])
    else damaged = Buffer.concat([head, noise, piece, tail])
  }
  return damaged
}

test('damaged files give documents or an error that names them, in bounded time', { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'moe-fuzz-'))
  const random = createRandom(20, 'damage')
  const outcomes = new Map<string, number>()
  let [files, slowest] = [0, 0]
  for (const [name, bytes] of Object.entries(whole)) {
    for (let i = 0; i < casesOf(name); i++) {
      writeFileSync(join(folder, name), damage(bytes, random))
      const skipBadRows = i % 2 === 0 ? 0 : 1000
      const startedAt = performance.now()
      let outcome = 'documents'
      try {
        const { source } = await openSource(sourceSpecSchema.parse({ name: 'fuzz', paths: [name], skipBadRows }), folder)
        for await (const { id, text } of source.documents()) if (typeof id !== 'string' || typeof text !== 'string') throw new Error('no document')
      } catch (error) {
        if (!(error instanceof AppError)) throw new Error(`case ${i} of ${name}: ${(error as Error).stack}`, { cause: error })
        expect([error.message.includes(name), error.hint !== ''], `case ${i} of ${name}: ${error.message}`).toEqual([true, true])
        outcome = error.code
      }
      files++
      slowest = Math.max(slowest, performance.now() - startedAt)
      expect(slowest, `case ${i} of ${name}`).toBeLessThan(slowestMs)
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
    }
  }
  rmSync(folder, { recursive: true, force: true })
  process.stdout.write(`${files} damaged files, slowest ${slowest.toFixed(0)} ms: ${[...outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', ')}\n`)
  expect(files).toBe(3000)
})
