/**
 * The built-in sample: its archive readers, its extractors, and, where it has been fetched, the data itself. The last three tests are
 * skipped on a checkout without resources/sample/data; the others need no data.
 */
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32, deflateRawSync, gzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { buildMix, planMix, stratifiedTexts } from '#core/data/mix.ts'
import { openSample } from '#core/data/sample.ts'
import { extractors } from '#resources/sample/extract.ts'
import { readTarball } from '#resources/sample/tar.ts'
import { readZip } from '#resources/sample/zip.ts'

type TarEntry = { path: string; content: string; type?: string; prefix?: string }

/** A tar as npm writes them: one ustar header per file. */
function makeTar(entries: TarEntry[]): Buffer {
  const blocks = entries.flatMap(({ path, content, type = '0', prefix = '' }) => {
    const header = Buffer.alloc(512)
    const bytes = Buffer.from(content)
    header.write(path, 0, 100)
    header.write(`${bytes.length.toString(8).padStart(11, '0')}\0`, 124)
    header.write('        ', 148)
    header.write(type, 156)
    header.write('ustar\x0000', 257)
    header.write(prefix, 345)
    const sum = header.reduce((a, b) => a + b, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    return [header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]
  })
  return Buffer.concat([...blocks, Buffer.alloc(1024)])
}
const tarFiles = (tar: Buffer): [string, string][] => [...readTarball(gzipSync(tar), 'test.tgz')].map(({ path, bytes }) => [path, bytes.toString()])

test('tar: regular files with their paths below the top folder, long paths too', () => {
  const long = `package/${'deep/'.repeat(30)}file.txt`
  const pax = ` path=${long}\n`
  const record = `${pax.length + 3}${pax}`
  const files = tarFiles(makeTar([
    { path: 'package/a.txt', content: 'a'.repeat(512) },
    { path: 'package/link', content: '', type: '2' },
    { path: 'package/folder/', content: '', type: '5' },
    { path: 'b.txt', content: 'b', prefix: 'package/inner' },
    { path: 'PaxHeader', content: record, type: 'x' },
    { path: 'package/short', content: 'c' },
    { path: '././@LongLink', content: `${long}2\0`, type: 'L' },
    { path: 'package/short', content: 'd' },
  ]))
  expect(files).toEqual([['a.txt', 'a'.repeat(512)], ['inner/b.txt', 'b'], [long.slice(8), 'c'], [`${long.slice(8)}2`, 'd']])
})

test('tar: paths that lead out, damage and truncation are refused', () => {
  for (const path of ['../evil', '/etc/passwd', 'package/../../evil', 'package\\..\\evil', 'C:/evil']) {
    expect(() => tarFiles(makeTar([{ path, content: 'x' }])), path).toThrow(/leads out of the archive/)
  }
  const tar = makeTar([{ path: 'package/a', content: 'x'.repeat(2000) }])
  expect(() => tarFiles(tar.subarray(0, 1024))).toThrow(/inside a file of 2000 bytes/)
  const damaged = Buffer.from(tar)
  damaged[3]! ^= 1
  expect(() => tarFiles(damaged)).toThrow(/no tar header at byte 0/)
  const packed = gzipSync(tar)
  expect(() => [...readTarball(packed.subarray(0, packed.length - 20), 'cut.tgz')]).toThrow(/cut\.tgz/)
  expect(() => [...readTarball(Buffer.from('no gzip'), 'no.tgz')]).toThrow(/no\.tgz/)
})

function makeZip(files: [path: string, content: string, stored?: boolean][]): Buffer {
  const locals: Buffer[] = []
  const directory: Buffer[] = []
  let at = 0
  for (const [path, content, stored] of files) {
    const data = stored ? Buffer.from(content) : deflateRawSync(content)
    const common = Buffer.alloc(22)
    common.writeUInt16LE(stored ? 0 : 8, 4)
    common.writeUInt32LE(crc32(content), 10)
    common.writeUInt32LE(data.length, 14)
    common.writeUInt32LE(Buffer.byteLength(content), 18)
    const name = Buffer.from(path)
    const lengths = Buffer.from([name.length, 0, 0, 0])
    locals.push(Buffer.from('PK\x03\x04', 'latin1'), common, lengths, name, data)
    const tail = Buffer.alloc(14)
    tail.writeUInt32LE(at, 10)
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, lengths, tail, name)
    at += 30 + name.length + data.length
  }
  const end = Buffer.alloc(22)
  end.write('PK\x05\x06', 'latin1')
  end.writeUInt16LE(files.length, 10)
  end.writeUInt32LE(at, 16)
  return Buffer.concat([...locals, ...directory, end])
}

test('zip: stored and deflated files; damage is refused', () => {
  const zip = makeZip([['a.py', 'x = 1\n'.repeat(50)], ['folder/', '', true], ['folder/b.py', 'stored', true]])
  expect([...readZip(zip, 'z')].map(({ path, bytes }) => [path, bytes.toString()])).toEqual([['a.py', 'x = 1\n'.repeat(50)], ['folder/b.py', 'stored']])
  const damaged = Buffer.from(zip)
  damaged[zip.indexOf('stored')]! ^= 1
  expect(() => [...readZip(damaged, 'z')]).toThrow(/folder\/b\.py does not match its checksum/)
  expect(() => [...readZip(zip.subarray(0, zip.length - 30), 'cut.zip')]).toThrow(/cut\.zip/)
  expect(() => [...readZip(zip.subarray(20), 'moved.zip')]).toThrow(/moved\.zip/)
})

const extract = (name: string, path: string, text: string): string[] => extractors[name]!({ path, bytes: Buffer.from(text) }).map((document) => document.text)

test('extractors take out what is not the text', () => {
  expect(extract('plain', 'a.txt', '\ufeffOne\r\n\r\n\r\n\r\n\r\nTwo   \r\n\n')).toEqual(['One\n\n\nTwo\n'])
  expect(extract('markdown', 'a.md', '---\ntitle: A page\ndescription: What it says.\n---\n\n<!-- hidden -->Body')).toEqual(['A page\n\nWhat it says.\n\nBody\n'])
  const body = `export const x = 1\n${'// line\n'.repeat(30)}`
  expect(extract('code', 'a.ts', `/**\n * @license MIT\n */\n\n${body}`)).toEqual([body])
  expect(extract('code', 'a.test.ts', body)).toEqual([])
  const country = { Introduction: { Background: { text: '<p>A &amp; B</p>' } }, Government: { 'Country name': { 'conventional short form': { text: 'Aland' }, note: { text: null } } } }
  expect(extract('factbook', 'a.json', JSON.stringify(country))).toEqual(['Aland\n\nIntroduction\n\nBackground: A & B\n\nGovernment\n\nCountry name, conventional short form: Aland\n'])
  const readme = `# F\n\n<!-- <equation class="equation" raw="x^2 < 1" alt=""> -->\n<div class="equation">\n<img>\n</div>\n\n${'Words of [it][it]. '.repeat(40)}\n\n<section class="examples">\ncode\n</section>\n\n<!-- /.examples -->\n\n[it]: https://example.org\n`
  const [mathematics] = extract('stdlib', 'README.md', readme)
  expect(mathematics).toContain('$$x^2 < 1$$')
  expect(mathematics).toContain('Words of it.')
  expect(mathematics).not.toMatch(/code|example\.org|section|<img/)
  const amalgamation = '/* top */\n/************** Begin file a.c ****/\nint a;\n/************** Include b.h in the middle of a.c ***/\n/************** Begin file b.h ****/\nint b;\n/************** End of b.h ****/\n/************** Continuing where we left off in a.c ***/\nint c;\n/************** End of a.c ****/\n'
  expect(extract('sqlite', 'sqlite3.c', amalgamation)).toEqual([expect.stringMatching(/^int a;\n[^]*int c;\n$/), 'int b;\n'])
})

test('a text that is not UTF-8 is not taken for text', () => {
  expect(() => extractors.plain!({ path: 'a.txt', bytes: Buffer.from([0x61, 0xff, 0xfe]) })).toThrow()
})

test('a sample that is missing or half there is said to be missing', () => {
  const folder = mkdtempSync(join(tmpdir(), 'moe-sample-'))
  expect(() => openSample(folder)).toThrow(/sample\.json does not exist/)
  const domain = { name: 'a', title: 'A', licence: 'x', source: 'p@1', documents: 1, bytes: 1, sha256: '' }
  writeFileSync(join(folder, 'sample.json'), JSON.stringify({ format: 'moe-workbench-sample', version: 1, recipe: 'r', domains: [domain] }))
  expect(() => openSample(folder)).toThrow(/a\.jsonl does not exist/)
  writeFileSync(join(folder, 'sample.json'), '{"format":"other"}')
  expect(() => openSample(folder)).toThrow(/sample\.json/)
})

const data = join(import.meta.dirname, '../../resources/sample/data')
const withData = test.runIf(existsSync(join(data, 'sample.json')))

withData('the fetched sample is what its index says, clean, and without doubles', async () => {
  const { index, sources } = openSample(data)
  expect(index.domains.length).toBeGreaterThanOrEqual(7)
  for (const [i, source] of sources.entries()) {
    const seen = new Set<string>()
    const ids = new Set<string>()
    let bytes = 0
    for await (const { id, text } of source.documents()) {
      bytes += Buffer.byteLength(text)
      ids.add(id)
      seen.add(text)
      if (/[\ufffd\u0000]/.test(text)) throw new Error(`${source.name}: ${id} looks damaged`)
    }
    const { documents, bytes: expected } = index.domains[i]!
    expect([ids.size, bytes], source.name).toEqual([documents, expected])
    expect(seen.size, `${source.name}: equal texts`).toBeGreaterThan(documents * 0.98)
    expect(bytes, source.name).toBeGreaterThan(500_000)
  }
})

withData('licence headers and tags are gone', () => {
  const read = (name: string): string => readFileSync(join(data, `${name}.jsonl`), 'utf8')
  expect(read('mathematics')).not.toMatch(/Licensed under the Apache License|<section|<img/)
  expect(read('encyclopedia')).not.toMatch(/<p>|<br|&nbsp;/)
  expect(read('c').match(/disclaims copyright/g)?.length ?? 0).toBeLessThan(15)
})

withData('a tokenizer and a mix of the sample in a few seconds', async () => {
  const { index, sources } = openSample(data)
  const totalBytes = index.domains.reduce((sum, { bytes }) => sum + bytes, 0)
  const some = sources.filter(({ name }) => ['literature', 'mathematics', 'chinese'].includes(name))
  const tokenizer = await trainTokenizer(stratifiedTexts(sources, totalBytes, 1_000_000), { vocabularySize: 2048 })
  const folder = mkdtempSync(join(tmpdir(), 'moe-sample-mix-'))
  const manifest = await buildMix(await planMix('sample', some, tokenizer), folder)
  for (const { name, bytes, trainTokens, validationTokens } of manifest.domains) {
    expect(bytes / (trainTokens + validationTokens), name).toBeGreaterThan(1.5)
    expect(validationTokens, name).toBeGreaterThan(10_000)
    expect(validationTokens, name).toBeLessThan(0.12 * trainTokens)
  }
}, 20_000)
