/** A mix from sources to batches: split, token files, manifest, instances, order. Over a small text made here. */
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { createTrainingOrder, validationBatches } from '#core/data/batches.ts'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { readJsonLines, type Document, type Source } from '#core/data/documents.ts'
import { readMixManifest, tokenFile, verifyMix, type MixManifest, type Split } from '#core/data/mix-manifest.ts'
import { buildMix, planMix, stratifiedTexts } from '#core/data/mix.ts'
import { openInstances } from '#core/data/shards.ts'
import { chooseValidation, documentHash } from '#core/data/split.ts'
import { tokenBytesFor } from '#core/data/token-writer.ts'
import type { Tokenizer } from '#core/data/tokenizer.ts'
import { createRandom } from '#core/shared/random.ts'

function madeDocuments(domain: string, count: number): Document[] {
  const random = createRandom(1, domain)
  const words = Array.from({ length: 80 }, () => String.fromCharCode(...Array.from({ length: 2 + random.nextBelow(6) }, () => 97 + random.nextBelow(26))))
  return Array.from({ length: count }, (_, i) => ({
    id: `${domain}/${i}`,
    text: Array.from({ length: 20 + random.nextBelow(60) }, () => words[random.nextBelow(words.length)]).join(' '),
  }))
}
const source = (name: string, documents: Document[]): Source => ({
  name,
  licence: 'CC0-1.0',
  async *documents() {
    yield* documents
  },
})
const sources = [source('prose', madeDocuments('prose', 200)), source('code', madeDocuments('code', 80)), source('small', madeDocuments('small', 5))]
const split = { fraction: 0.05, floorBytes: 2000 }
const sequenceLength = 32

let tokenizer: Tokenizer
let manifest: MixManifest
const folder = mkdtempSync(join(tmpdir(), 'moe-mix-'))
const freshFolder = (): string => mkdtempSync(join(tmpdir(), 'moe-mix-'))

beforeAll(async () => {
  tokenizer = await trainTokenizer(stratifiedTexts(sources, 100_000, 20_000), { vocabularySize: 400 })
  manifest = await buildMix(await planMix('test', sources, tokenizer, split), folder)
})

const readTokens = (domain: string, part: Split, at = folder): number[] => {
  const bytes = readFileSync(join(at, tokenFile(domain, part)))
  return Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i))
}
type IndexRow = { id: string; split: Split; start: number; tokens: number; hash: string }
const readIndex = (domain: string): IndexRow[] =>
  readFileSync(join(folder, `${domain}.documents.jsonl`), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as IndexRow)

test('every document is in its split’s file, where the index says, ended by EOS', async () => {
  for (const { name, documents } of sources) {
    const rows = readIndex(name)
    const tokens = { train: readTokens(name, 'train'), validation: readTokens(name, 'validation') }
    const domain = manifest.domains.find((one) => one.name === name)!
    expect([domain.trainTokens, domain.validationTokens]).toEqual([tokens.train.length, tokens.validation.length])
    expect(rows.reduce((sum, row) => sum + row.tokens, 0)).toBe(domain.trainTokens + domain.validationTokens)
    let i = 0
    for await (const { id, text } of documents()) {
      const row = rows[i++]!
      expect([row.id, row.hash]).toEqual([id, documentHash(text)])
      const ids = tokens[row.split].slice(row.start, row.start + row.tokens)
      expect(ids.at(-1)).toBe(manifest.eosId)
      expect(tokenizer.decode(ids.slice(0, -1))).toBe(text)
    }
    expect(rows).toHaveLength(i)
  }
})

test('the share that is held out is at least what was asked and not much more; a small domain keeps most of its text', () => {
  for (const { name, bytes } of manifest.domains) {
    const rows = readIndex(name)
    const held = rows.filter((row) => row.split === 'validation')
    expect(held.length).toBeGreaterThan(0)
    const share = held.reduce((sum, row) => sum + row.tokens, 0) / rows.reduce((sum, row) => sum + row.tokens, 0)
    expect(share).toBeGreaterThan(Math.max(0.05, Math.min(0.1, 2000 / bytes)) * 0.8)
    expect(share).toBeLessThan(0.5)
  }
})

test('the split: equal texts on one side, the order of documents does not matter, the last text is never held out', () => {
  const documents = madeDocuments('split', 40).map(({ text }) => ({ hash: documentHash(text), bytes: text.length }))
  const last = chooseValidation(documents, split)
  expect(chooseValidation([...documents].reverse(), split)).toBe(last)
  const held = documents.filter(({ hash }) => hash <= last).length
  const doubled = chooseValidation([...documents, ...documents], { ...split, floorBytes: split.floorBytes * 2 })
  expect(documents.filter(({ hash }) => hash <= doubled)).toHaveLength(held)
  expect(chooseValidation(documents.slice(0, 1), split)).toBe('')
  expect(chooseValidation([documents[0]!, documents[0]!], split)).toBe('')
})

test('the same inputs give the same files and hash; other inputs another id', async () => {
  const again = freshFolder()
  const second = await buildMix(await planMix('test', sources, tokenizer, split), again)
  expect(second).toEqual(manifest)
  for (const name of readdirSync(folder)) expect(readFileSync(join(again, name)).equals(readFileSync(join(folder, name))), name).toBe(true)
  const other = await planMix('test', [...sources.slice(0, 2), source('small', madeDocuments('small', 6))], tokenizer, split)
  expect(other.id).not.toBe(manifest.id)
  expect((await planMix('test', sources, tokenizer, { ...split, fraction: 0.06 })).id).not.toBe(manifest.id)
})

test('damage is found and named', async () => {
  const broken = freshFolder()
  await buildMix(await planMix('test', sources, tokenizer, split), broken)
  await expect(verifyMix(broken)).resolves.toEqual(manifest)
  const path = join(broken, tokenFile('code', 'train'))
  const bytes = readFileSync(path)
  bytes[10]! ^= 1
  writeFileSync(path, bytes)
  expect(readMixManifest(broken).id).toBe(manifest.id)
  await expect(verifyMix(broken)).rejects.toThrow(/code\.train\.bin.*hash/)
  truncateSync(path, bytes.length - 2)
  expect(() => readMixManifest(broken)).toThrow(/code\.train\.bin.*expected/)
  rmSync(path)
  expect(() => readMixManifest(broken)).toThrow(/missing/)
  expect(() => readMixManifest(freshFolder())).toThrow(/manifest\.json/)
})

test('a source that changes between scan and build is refused, an aborted build ends', async () => {
  const documents = madeDocuments('moving', 50)
  const plan = await planMix('test', [source('moving', documents)], tokenizer, split)
  documents.pop()
  await expect(buildMix(plan, freshFolder())).rejects.toThrow(/moving gave 49 documents, 50/)
  const stop = new AbortController()
  stop.abort(new Error('enough'))
  await expect(buildMix(await planMix('test', sources, tokenizer, split), freshFolder(), { signal: stop.signal })).rejects.toThrow('enough')
  await expect(planMix('test', [source('none', [])], tokenizer, split)).rejects.toThrow(/none has no documents/)
})

test('instances are consecutive chunks with inner targets; the training tail is dropped, the validation tail padded', () => {
  const train = openInstances(folder, manifest, 'train', sequenceLength)
  expect(train.count).toBe(manifest.domains.reduce((sum, { trainTokens }) => sum + Math.floor(trainTokens / sequenceLength), 0))
  const { name, first, count } = train.domains[1]!
  const tokens = readTokens(name, 'train')
  const [ids, targets] = [new Int32Array(2 * sequenceLength), new Int32Array(2 * sequenceLength)]
  for (const k of [0, 1, count - 1]) {
    expect(train.read(first + k, ids, targets, sequenceLength)).toBe(sequenceLength - 1)
    const expected = tokens.slice(k * sequenceLength, (k + 1) * sequenceLength)
    expect([...ids.subarray(sequenceLength)]).toEqual(expected)
    expect([...targets.subarray(sequenceLength)]).toEqual([...expected.slice(1), -1])
    expect(train.domainOf(first + k)).toBe(1)
  }
  expect(() => train.read(train.count, ids, targets, 0)).toThrow(RangeError)
  train.close()

  const heldOut = openInstances(folder, manifest, 'validation', sequenceLength)
  for (const [domain, { validationTokens, name: domainName }] of manifest.domains.entries()) {
    const batches = [...validationBatches(heldOut, domain, 4)]
    const expected = readTokens(domainName, 'validation')
    const found = batches.flatMap((batch) => [...batch.ids]).slice(0, validationTokens)
    expect(found).toEqual(expected)
    expect(batches.reduce((sum, batch) => sum + batch.targetCount, 0)).toBe(validationTokens - Math.ceil(validationTokens / sequenceLength))
    expect(batches.flatMap((batch) => [...batch.targets].filter((target) => target >= 0))).toHaveLength(validationTokens - Math.ceil(validationTokens / sequenceLength))
  }
  heldOut.close()
  expect(() => openInstances(folder, manifest, 'train', 1_000_000)).toThrow(/1000000 training tokens/)
})

test('each epoch visits every instance once, in another order; another seed is another order', () => {
  const train = openInstances(folder, manifest, 'train', sequenceLength)
  const n = train.count
  const order = createTrainingOrder(train, 6198)
  const epoch = (k: number): number[] => Array.from({ length: n }, (_, i) => order.instanceAt(k * n + i))
  const [first, second] = [epoch(0), epoch(1)]
  expect([...first].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i))
  expect([...second].sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i))
  expect(second).not.toEqual(first)
  const other = createTrainingOrder(train, 42)
  expect(Array.from({ length: n }, (_, i) => other.instanceAt(i))).not.toEqual(first)
  train.close()
})

test('a batch depends on seed and position only: one that resumes reads on exactly, also over the end of an epoch', () => {
  const train = openInstances(folder, manifest, 'train', sequenceLength)
  const through = createTrainingOrder(train, 6198)
  const size = 7
  const batches = Array.from({ length: Math.ceil((2.5 * train.count) / size) }, (_, i) => through.batchAt(i * size, size))
  for (const step of [0, 3, Math.floor(train.count / size), batches.length - 1]) {
    expect(createTrainingOrder(train, 6198).batchAt(step * size, size)).toEqual(batches[step])
  }
  const batch = batches[2]!
  batch.instances.forEach((instance, row) => expect(batch.domains[row]).toBe(train.domainOf(instance)))
  expect(batch.targetCount).toBe(size * (sequenceLength - 1))
  train.close()
})

test('tokens take two bytes up to 65,536 ids, then four', () => {
  expect([tokenBytesFor(65_536), tokenBytesFor(65_537)]).toEqual([2, 4])
})

test('a vocabulary above 65,536 is stored and read back in four bytes', async () => {
  const json = structuredClone(tokenizer.json)
  json.added_tokens.push({ id: 70_000, content: 'ZZZ', special: false, normalized: false })
  const { createTokenizer } = await import('#core/data/tokenizer.ts')
  const wide = freshFolder()
  const built = await buildMix(await planMix('wide', [source('wide', [{ id: '1', text: 'a ZZZ b'.repeat(40) }])], createTokenizer(json), split), wide)
  expect(built.tokenBytes).toBe(4)
  const instances = openInstances(wide, built, 'train', 16)
  const [ids, targets] = [new Int32Array(16), new Int32Array(16)]
  instances.read(0, ids, targets, 0)
  expect(ids).toContain(70_000)
  expect(targets).toContain(70_000)
  instances.close()
})

test('a bad row of JSON lines is named', async () => {
  const path = join(folder, '..', `rows-${process.pid}.jsonl`)
  const readAll = async (): Promise<Document[]> => {
    const documents: Document[] = []
    for await (const document of readJsonLines(path)) documents.push(document)
    return documents
  }
  writeFileSync(path, '{"id":"1","text":"one"}\r\n\n{"id":"2","text":"zwei\u2028"}\n')
  expect(await readAll()).toEqual([{ id: '1', text: 'one' }, { id: '2', text: 'zwei\u2028' }])
  appendFileSync(path, '{"id":"3"}\n')
  await expect(readAll()).rejects.toThrow(/row 4: "text" is undefined/)
  writeFileSync(path, 'nonsense\n')
  await expect(readAll()).rejects.toThrow(/row 1: not JSON/)
  rmSync(path)
  await expect(readAll()).rejects.toThrow(/cannot be read/)
})
