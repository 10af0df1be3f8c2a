/** A mix built from files: what is dropped and why, nothing leaks, the same bytes for any threads and after an interruption, shares. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createTrainingOrder, passLength } from '#core/data/batches.ts'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { buildKey, neededBytes, prepareBuild, requireDiskSpace } from '#core/data/build/build.ts'
import { addNgrams } from '#core/data/build/contamination.ts'
import { createNumberSet } from '#core/data/filters/number-set.ts'
import { ngramsOf } from '#core/data/filters/words.ts'
import type { MixManifest, Split } from '#core/data/mix-manifest.ts'
import { expectedTextBytes } from '#core/data/readers/files.ts'
import { openSource, type FileSource } from '#core/data/readers/source.ts'
import { openInstances } from '#core/data/shards.ts'
import { mergeParts } from '#core/data/tokenizer-json.ts'
import type { Tokenizer } from '#core/data/tokenizer.ts'
import type { BuildOptions } from '#core/data/build/tokenize.ts'
import { trainOnSources } from '#core/runner/build-mix.ts'
import { planShares } from '#core/shared/mix-shares.ts'
import { mixSpecSchema, type MixSpec } from '#core/shared/mixes.ts'
import { createRandom } from '#core/shared/random.ts'
import { sourceSpecSchema } from '#core/shared/sources.ts'

const root = mkdtempSync(join(tmpdir(), 'moe-build-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
const random = createRandom(3, 'build')
const words = Array.from({ length: 900 }, () => String.fromCharCode(...Array.from({ length: 2 + random.nextBelow(7) }, () => 97 + random.nextBelow(26))))
const draw = (count: number): string => Array.from({ length: count }, () => words[random.nextBelow(words.length)]).join(' ')

const prose = Array.from({ length: 150 }, () => draw(80))
const evaluation = draw(60)
const extra = {
  'exact copy': prose[3]!,
  'near copy': prose[4]!.split(' ').map((word, i) => (i === 40 ? 'changed' : word)).join(' ').toUpperCase(),
  repeated: `${draw(10)} ${'ha '.repeat(200)}`,
  contaminated: `${draw(30)} ${evaluation.split(' ').slice(10, 30).join(' ')} ${draw(30)}`,
  empty: '',
}
const filters = { near: {}, contamination: { heldOut: true } }

let tokenizer: Tokenizer
let spec: MixSpec
let sources: FileSource[]
let manifest: MixManifest
let folder: string

async function build(options: BuildOptions = {}, given = spec, work = mkdtempSync(join(root, 'work-'))): Promise<{ manifest: MixManifest; folder: string }> {
  const prepared = await prepareBuild({ spec: given, sources, tokenizer, evaluationTexts: [evaluation] }, work, { threads: 1, shardBytes: 8000, ...options })
  const target = mkdtempSync(join(root, 'mix-'))
  return { manifest: await prepared.fill(target), folder: target }
}

beforeAll(async () => {
  mkdirSync(join(root, 'code'))
  writeFileSync(join(root, 'prose.jsonl'), [...prose, ...Object.values(extra)].map((text) => JSON.stringify({ text })).join('\n'))
  for (let i = 0; i < 12; i++) writeFileSync(join(root, 'code', `${i}.py`), Array.from({ length: 30 }, (_, k) => `def ${words[k * 7 + i]}(x): return x + ${k}`).join('\n'))
  writeFileSync(join(root, 'code', 'common.py'), 'x '.repeat(20) + draw(30))
  writeFileSync(join(root, 'starred.jsonl'), Array.from({ length: 20 }, (_, i) => JSON.stringify({ content: draw(60), stars: i % 4 })).join('\n'))
  spec = mixSpecSchema.parse({ name: 'test', sources: [{ name: 'prose', paths: ['prose.jsonl'] }, { name: 'code', paths: ['code'] }, { name: 'starred', paths: ['starred.jsonl'] }], filters, heldOut: { fraction: 0.1, floorBytes: 0 } })
  sources = (await Promise.all(spec.sources.map((source) => openSource(source, root)))).map(({ source }) => source)
  tokenizer = await trainTokenizer(prose, { vocabularySize: 600 })
  ;({ manifest, folder } = await build())
})

type IndexRow = { id: string; split: Split; start: number; tokens: number; hash: string }
const readIndex = (name: string, at = folder): IndexRow[] => readFileSync(join(at, `${name}.documents.jsonl`), 'utf8').trimEnd().split('\n').map((line) => JSON.parse(line) as IndexRow)
function textsOf(name: string, split: Split): string[] {
  const bytes = readFileSync(join(folder, `${name}.${split}.bin`))
  const ids = Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i))
  return readIndex(name).filter((row) => row.split === split).map(({ start, tokens }) => tokenizer.decode(ids.slice(start, start + tokens - 1)))
}

test('each filter drops what it should, counts it and shows it', () => {
  const [first, code, starred] = manifest.outcomes!
  const why = Object.fromEntries(first!.dropped.map(({ filter, examples }) => [filter, examples.map(({ id }) => id)]))
  expect(why).toMatchObject({ exact: ['prose.jsonl#151'], near: ['prose.jsonl#152'], repeats: ['prose.jsonl#153'], contamination: ['prose.jsonl#154'], length: ['prose.jsonl#155'] })
  expect(code!.dropped.find(({ filter }) => filter === 'words')).toMatchObject({ documents: 1, examples: [{ id: 'code/common.py' }] })
  expect(starred!.dropped.find(({ filter }) => filter === 'stars')).toMatchObject({ documents: 10 })
  for (const { documents, kept, dropped, tokens, name } of manifest.outcomes!) {
    expect(kept + dropped.reduce((sum, one) => sum + one.documents, 0)).toBe(documents)
    const { trainTokens, validationTokens } = manifest.domains.find((domain) => domain.name === name)!
    expect(trainTokens + validationTokens - kept + dropped.reduce((sum, one) => sum + one.tokens, 0)).toBe(tokens)
  }
})

test('what is kept is the very text; nothing held out or evaluated is trained on', () => {
  const known = createNumberSet()
  addNgrams(evaluation, 13, known)
  const held = manifest.domains.flatMap(({ name }) => textsOf(name, 'validation'))
  held.forEach((text) => addNgrams(text, 13, known))
  const train = manifest.domains.flatMap(({ name }) => textsOf(name, 'train'))
  expect(held.length).toBeGreaterThan(10)
  for (const text of train) expect([held.includes(text), ngramsOf(text, 13).some((hash) => known.has(hash))]).toEqual([false, false])
  expect([...textsOf('prose', 'train'), ...textsOf('prose', 'validation')].sort()).toEqual([...prose].sort())
})

test('the same bytes with other threads, and after builds that were stopped', async () => {
  const work = mkdtempSync(join(root, 'stopped-'))
  for (const stopAt of [2, 5]) {
    const stop = new AbortController()
    let shards = 0
    await expect(build({ signal: stop.signal, onProgress: (phase) => phase === 'tokenize' && ++shards === stopAt && stop.abort(new Error('stopped')) }, spec, work)).rejects.toThrow('stopped')
  }
  const before = readdirSync(work).filter((name) => name.endsWith('.json'))
  expect(before.length).toBeGreaterThan(0)
  const stamps = before.map((name) => statSync(join(work, name)).mtimeMs)
  const again = await build({ threads: 2 }, spec, work)
  expect(before.map((name) => statSync(join(work, name)).mtimeMs)).toEqual(stamps)
  expect(again.manifest).toEqual(manifest)
  for (const name of readdirSync(folder)) expect(readFileSync(join(again.folder, name)).equals(readFileSync(join(folder, name))), name).toBe(true)
})

test('a file that changed since is another work folder, and refused while it is open', async () => {
  const key = buildKey({ spec, sources, tokenizer })
  const path = join(root, 'starred.jsonl')
  const { atime, mtime } = statSync(path)
  utimesSync(path, atime, new Date(mtime.getTime() + 5000))
  await expect(build()).rejects.toMatchObject({ code: 'source.changed' })
  const reopened = (await openSource(spec.sources[2]!, root)).source
  expect(buildKey({ spec, sources: [...sources.slice(0, 2), reopened], tokenizer })).not.toBe(key)
  sources[2] = reopened
})

test('disk space is asked for first, and said', () => {
  expect(neededBytes(expectedTextBytes(sources.flatMap(({ found }) => found.files)), 2, spec.filters)).toBeGreaterThan(100_000)
  expect(() => requireDiskSpace(root, 1)).not.toThrow()
  expect(() => requireDiskSpace(root, 1e18)).toThrow(/found .* MiB of free space, expected about/)
})

test('shares: natural, chosen, capped with the rest shared out', () => {
  const two = [{ name: 'a', available: 900 }, { name: 'b', available: 100 }]
  expect(planShares(two, null).map(({ share, epochs }) => [share, epochs])).toEqual([[0.9, 1], [0.1, 1]])
  expect(planShares(two, { a: 3, b: 1 }).map(({ tokens, epochs, warning }) => [tokens, epochs, warning])).toEqual([[750, 750 / 900, 'none'], [250, 2.5, 'none']])
  expect(planShares(two, { a: 1, b: 1 }, { totalTokens: 1000 }).map(({ tokens, warning }) => [tokens, warning])).toEqual([[600, 'none'], [400, 'capped']])
  expect(planShares(two, { a: 1, b: 1 }, { maxEpochs: 10 }).map(({ tokens, warning }) => [tokens, warning])).toEqual([[500, 'none'], [500, 'repeated']])
  expect(planShares(two, { a: 1 }).map(({ tokens }) => tokens)).toEqual([1000, 0])
})

test('a pass sees each source as often as its share says, other parts in each pass, and goes on exactly', async () => {
  const chosen = await build({}, { ...spec, shares: { prose: 0.3, code: 0.6, starred: 0.1 } })
  expect(chosen.manifest.hash).not.toBe(manifest.hash)
  const instances = openInstances(chosen.folder, chosen.manifest, 'train', 32)
  const order = createTrainingOrder(instances, 1)
  const length = passLength(instances)
  const seen = [0, 1].map((epoch) => Array.from({ length }, (_, i) => order.instanceAt(epoch * length + i)))
  for (const [i, { count, epochs, first }] of instances.domains.entries()) {
    for (const pass of seen) {
      const own = pass.filter((instance) => instances.domainOf(instance) === i)
      expect(own).toHaveLength(Math.round(count * epochs))
      const times = Array.from({ length: count }, (_, k) => own.filter((instance) => instance === first + k).length)
      expect(Math.max(...times) - Math.min(...times)).toBeLessThanOrEqual(1)
    }
  }
  expect([...seen[0]!].sort()).not.toEqual([...seen[1]!].sort())
  expect(createTrainingOrder(instances, 1).instanceAt(length + 5)).toBe(seen[1]![5])
  instances.close()
})

test('a training instance with a periodic run keeps its place and loses its loss', async () => {
  const off = mixSpecSchema.parse({ ...spec, filters: { ...filters, repeats: null }, heldOut: { fraction: 0, floorBytes: 0 } })
  const built = await build({}, off)
  const instances = openInstances(built.folder, built.manifest, 'train', 128)
  const [ids, targets] = [new Int32Array(128), new Int32Array(128)]
  const counts = Array.from({ length: instances.count }, (_, i) => instances.read(i, ids, targets, 0))
  expect(new Set(counts)).toEqual(new Set([127, 0]))
  expect(counts.filter((count) => count === 0).length).toBeLessThan(8)
  instances.read(counts.indexOf(0), ids, targets, 0)
  expect(new Set(targets)).toEqual(new Set([-1]))
  instances.close()
})

test('a licence that many documents share is no leak; an evaluation text in as many is', async () => {
  const licence = draw(40)
  writeFileSync(join(root, 'licensed.jsonl'), Array.from({ length: 60 }, () => JSON.stringify({ text: `${licence} ${draw(40)}` })).join('\n'))
  const dropped = async (commonIn: number, evaluationTexts: string[]): Promise<number> => {
    const own = mixSpecSchema.parse({ name: 'licensed', sources: [{ name: 'licensed', paths: ['licensed.jsonl'] }], filters: { contamination: { commonIn } }, heldOut: { fraction: 0.1, floorBytes: 0 } })
    const { source } = await openSource(own.sources[0]!, root)
    const prepared = await prepareBuild({ spec: own, sources: [source], tokenizer, evaluationTexts }, mkdtempSync(join(root, 'work-')), { threads: 2, shardBytes: 4000 })
    const built = await prepared.fill(mkdtempSync(join(root, 'mix-')))
    return built.outcomes![0]!.dropped.find(({ filter }) => filter === 'contamination')?.documents ?? 0
  }
  expect(await dropped(10, [])).toBe(0)
  // Above the number of documents nothing is common, and all that is left to train on would go.
  await expect(dropped(1000, [])).rejects.toMatchObject({ code: 'mix.empty' })
  await expect(dropped(10, [licence])).rejects.toMatchObject({ code: 'mix.empty' })
})

test('progress: every phase over text counts bytes up to a total that stands from the first', async () => {
  const seen = new Map<string, { done: number; total: number | null; unit: string }[]>()
  await build({ threads: 2, onProgress: (phase, done, total, unit) => void seen.set(phase, [...(seen.get(phase) ?? []), { done, total, unit }]) })
  for (const phase of ['tokenize', 'decontaminate', 'write']) {
    const steps = seen.get(phase)!
    expect(new Set(steps.map(({ total, unit }) => `${total} ${unit}`)).size, phase).toBe(1)
    expect(steps[0]!.unit).toBe('bytes')
    expect(steps.map(({ done }) => done)).toEqual(steps.map(({ done }) => done).sort((a, b) => a - b))
    expect(steps.at(-1)!.done / steps.at(-1)!.total!, phase).toBeCloseTo(1, 2)
  }
})

test('a tokenizer learns from so much of each source, a small one as much as a large one', async () => {
  const folder = mkdtempSync(join(root, 'sample-'))
  const write = (name: string, letters: string, documents: number): void => writeFileSync(join(folder, name), Array.from({ length: documents }, (_, i) => JSON.stringify({ text: `${letters.repeat(20)}${i % 7} `.repeat(10) })).join('\n'))
  write('large.jsonl', 'xy', 400)
  write('small.jsonl', 'qz', 20)
  const opened: FileSource[] = []
  for (const name of ['large', 'small']) opened.push((await openSource(sourceSpecSchema.parse({ name, paths: [`${name}.jsonl`] }), folder)).source)
  const firstMerges = async (sampleBytes: number | null) => (await trainOnSources(opened, { vocabularySize: 300, sampleBytes }, () => undefined)).json.model.merges.slice(0, 2).map((merge) => mergeParts(merge).join(''))
  // Cut evenly, the large source's pairs are the most frequent ones; with as many documents of each they are equal, and ids decide.
  expect(await firstMerges(null)).toEqual(['xy', 'xyxy'])
  expect(await firstMerges(1000)).toEqual(['qz', 'xy'])
})

test('packed files are expected to hold more text than they are large', () => {
  const file = (compression: 'none' | 'gzip', format: 'jsonl' | 'parquet') => ({ path: '', name: '', format, compression, sizeBytes: 100, modifiedMs: 0 })
  expect([file('none', 'jsonl'), file('gzip', 'jsonl'), file('none', 'parquet')].map((one) => expectedTextBytes([one]))).toEqual([100, 400, 400])
})
