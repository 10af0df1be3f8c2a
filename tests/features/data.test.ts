/** Sources and builds over a real core with real runners: files, uploads and downloads become sources; drafts outlive a restart and become mixes. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { execFile } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { startCore, type Core } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import { mixDraftSchema, type Build, type BuildStatus, type MixDraft } from '#core/shared/builds.ts'
import { createRandom } from '#core/shared/random.ts'
import type { LibrarySource } from '#core/shared/sources.ts'
import { buildsInStatus, putBuild } from '#core/store/builds.ts'
import { openStore } from '#core/store/open.ts'
import { recipe } from './recipe.ts'

const random = createRandom(5, 'data')
const words = Array.from({ length: 400 }, (_, i) => `word${i * 13}`)
const draw = (count: number): string => Array.from({ length: count }, () => words[random.nextBelow(words.length)]).join(' ')
const prose = Array.from({ length: 80 }, () => draw(60))

type Place = { folder: string; start(): Promise<Core> }

function createPlace(): Place {
  const folder = mkdtempSync(join(tmpdir(), 'moe-data-'))
  const cores: Core[] = []
  onTestFinished(async () => {
    for (const core of cores) await core.close()
    rmSync(folder, { recursive: true, force: true })
  })
  mkdirSync(join(folder, 'texts', 'code'), { recursive: true })
  writeFileSync(join(folder, 'texts', 'prose.jsonl'), [...prose, prose[2]!, ''].map((body) => JSON.stringify({ body })).join('\n'))
  for (let i = 0; i < 8; i++) writeFileSync(join(folder, 'texts', 'code', `${i}.py`), Array.from({ length: 40 }, (_, k) => `def ${words[k * 7 + i]}(x): return x + ${k}`).join('\n'))
  const host = nodeHost({ kind: 'test', libraryPath: join(folder, 'library'), log: () => undefined })
  return {
    folder,
    async start() {
      const core = await startCore(host)
      cores.push(core)
      return core
    },
  }
}

/** Waits until the source has come to rest. */
async function rested(core: Core, id: string): Promise<LibrarySource> {
  let found: LibrarySource | undefined
  await expect.poll(async () => (found = (await core.client.sources.list()).find((source) => source.id === id))?.state, { timeout: 20_000, interval: 30 }).not.toMatch(/fetching|looking/)
  return found!
}

async function until(core: Core, id: string, ...statuses: BuildStatus[]): Promise<Build> {
  let found: Build | undefined
  await expect.poll(async () => (found = (await core.client.builds.list()).find((build) => build.id === id))?.status, { timeout: 30_000, interval: 30 }).toBeOneOf(statuses)
  return found!
}

const draftOf = (sources: LibrarySource[], change: Partial<MixDraft> = {}): MixDraft =>
  mixDraftSchema.parse({ name: 'mine', sources: sources.map(({ id }) => id), vocabularySize: 400, heldOut: { fraction: 0.1, floorBytes: 0 }, ...change })

test('from a folder to a mix: looked at, previewed, built, shown as batches, and kept while a run needs it', async () => {
  const place = createPlace()
  const core = await place.start()
  const { client } = core
  const [first, code] = [await client.sources.add({ paths: [join(place.folder, 'texts/prose.jsonl')], licence: 'CC0-1.0' }), await client.sources.add({ paths: [join(place.folder, 'texts/code')] })]
  const source = await rested(core, first.id)
  expect(source).toMatchObject({ spec: { name: 'prose', licence: 'CC0-1.0' }, state: 'ready', report: { documents: 82, mapping: { text: 'body' }, badRowCount: 0 } })
  expect((await rested(core, code.id)).report).toMatchObject({ files: 8, documents: 8, formats: ['code'] })

  const draft = draftOf([first, code], { shares: { [first.id]: 1, [code.id]: 1 } })
  const preview = await client.builds.preview({ draft })
  expect(preview).toMatchObject({ tokenizer: 'sampled', sources: [{ name: 'prose', documents: 82, isWhole: true }, { name: 'code', documents: 8 }] })
  expect(preview.sources[0]!.dropped.map(({ filter, documents }) => [filter, documents]).sort()).toEqual([['exact', 1], ['length', 1]])
  expect(preview.sources[0]!.shown[0]).toMatchObject({ text: prose[0]!.slice(0, 600), dropped: null })
  expect(preview.freeBytes).toBeGreaterThan(preview.neededBytes)

  const made = await client.builds.create({ draft })
  await expect(client.sources.remove({ id: code.id })).rejects.toMatchObject({ code: 'sources.inUse', params: { mix: 'mine' } })
  await client.builds.start({ id: made.id })
  const built = await until(core, made.id, 'done')
  const { mix, outcomes } = await client.mixes.get({ id: built.mixId! })
  expect(mix).toMatchObject({ name: 'mine', domains: [{ name: 'prose' }, { name: 'code' }] })
  expect(outcomes.map(({ kept, documents }) => [kept, documents])).toEqual([[80, 82], [8, 8]])
  expect(outcomes[0]!.share).toBeCloseTo(0.5, 1)
  const batches = await client.mixes.preview({ id: mix.id, sequenceLength: 32, sequencesPerStep: 4 })
  expect(batches.steps[0]!.instances).toHaveLength(4)
  expect(Object.values(batches.bySource).reduce((a, b) => a + b)).toBe(4)
  expect((await client.tokenizers.list()).map(({ id }) => id)).toEqual([`mix:${mix.id}`])

  const plain = recipe()
  const run = await client.runs.create({ config: { ...plain, mix: mix.id, name: 'On mine', model: { ...plain.model, vocab_size: 400 } } })
  await expect(client.mixes.remove({ id: mix.id })).rejects.toMatchObject({ code: 'mixes.inUse', params: { runs: 'On mine' } })
  await client.runs.stop({ id: run.id, save: false })
  await expect.poll(async () => (await client.runs.get({ id: run.id })).status, { timeout: 10_000 }).not.toMatch(/running|stopping|queued/)
  await client.runs.remove({ id: run.id, checkpoints: true })
  await client.mixes.remove({ id: mix.id })
  expect([existsSync(join(place.folder, 'library/mixes', mix.id)), await client.mixes.list()]).toEqual([false, []])
})

test('a draft and its sources are there after a restart; a build that was cut off says so and is finished to the same mix', async () => {
  const place = createPlace()
  const core = await place.start()
  const source = await core.client.sources.add({ paths: [join(place.folder, 'texts')] })
  await rested(core, source.id)
  const draft = draftOf([source], { name: 'kept', filters: { ...draftOf([]).filters, near: { similarity: 0.7, shingle: 5 } } })
  const { id } = await core.client.builds.create({ draft })
  await core.client.builds.start({ id })
  await core.close()
  const again = await place.start()
  const [found] = await again.client.builds.list()
  expect(found).toMatchObject({ id, draft, status: expect.stringMatching(/stopped|interrupted|done/) })
  if (found!.status !== 'done') await again.client.builds.start({ id })
  const { mixId } = await until(again, id, 'done')
  const copy = await again.client.builds.create({ draft })
  await again.client.builds.start({ id: copy.id })
  expect((await until(again, copy.id, 'done')).mixId).toBe(mixId)
  await expect(again.client.builds.update({ id, draft })).rejects.toMatchObject({ code: 'builds.underWay' })
  expect(readdirSync(join(place.folder, 'library/builds'))).toEqual([])
})

test('what a killed core left under way is interrupted at the next start, and neither lost nor listed as a mix', async () => {
  const place = createPlace()
  const core = await place.start()
  const source = await core.client.sources.add({ paths: [join(place.folder, 'texts')] })
  await rested(core, source.id)
  const { id } = await core.client.builds.create({ draft: draftOf([source]) })
  await core.close()
  // As a kill leaves it: under way in the store, with a half-written folder among the mixes.
  const store = openStore(join(place.folder, 'library/library.sqlite'))
  putBuild(store, { ...buildsInStatus(store, 'draft')[0]!, status: 'running' })
  store.close()
  mkdirSync(join(place.folder, 'library/mixes/.tmp-0a0b0c'), { recursive: true })
  const again = await place.start()
  expect(await again.client.builds.list()).toMatchObject([{ id, status: 'interrupted', mixId: null }])
  expect([await again.client.mixes.list(), readdirSync(join(place.folder, 'library/mixes'))]).toEqual([[], []])
  await again.client.builds.start({ id })
  await until(again, id, 'done')
})

test('a build on the command line is refused while a workbench has the library open', async () => {
  const place = createPlace()
  await place.start()
  writeFileSync(join(place.folder, 'mix.json'), JSON.stringify({ name: 'cli', sources: [{ name: 'texts', paths: ['texts'] }] }))
  const cli = resolve(import.meta.dirname, '../../core/cli.ts')
  const answer = await new Promise<string>((done) => execFile(process.execPath, [cli, 'data', 'build', join(place.folder, 'mix.json'), '--json', '--library', join(place.folder, 'library')], (_, stdout) => done(stdout)))
  expect(JSON.parse(answer)).toMatchObject({ error: { code: 'library.busy' } })
})

test('names in a source start at its folder, so that a mix is the same wherever the folder lies', async () => {
  const place = createPlace()
  const core = await place.start()
  cpSync(join(place.folder, 'texts'), join(place.folder, 'moved/elsewhere'), { recursive: true })
  const found = []
  for (const path of ['texts', 'moved/elsewhere', 'texts/code/*.py']) found.push(await rested(core, (await core.client.sources.add({ paths: [join(place.folder, path)] })).id))
  expect(found.map(({ report }) => report!.examples[0]!.id)).toEqual(['code/0.py', 'code/0.py', '0.py'])
  expect(found[1]!.report!.fingerprint).toBe(found[0]!.report!.fingerprint)
})

test('bad rows are counted and named, refused until they may be skipped, and skipped by choice', async () => {
  const place = createPlace()
  const core = await place.start()
  const path = join(place.folder, 'texts/bad.jsonl')
  writeFileSync(path, prose.flatMap((text, i) => [JSON.stringify({ text }), ...(i % 30 === 7 ? ['{"text": 12}', 'no json'] : [])]).join('\n'))
  const { id } = await core.client.sources.add({ paths: [path] })
  const { state, report } = await rested(core, id)
  expect([state, report!.badRowCount, report!.documents]).toEqual(['ready', 6, 80])
  expect(report!.badRows[0]).toMatchObject({ row: 9, field: 'text', found: 'number 12', expected: 'a text' })
  const build = await core.client.builds.create({ draft: draftOf([{ id } as LibrarySource]) })
  await expect(core.client.builds.start({ id: build.id })).rejects.toMatchObject({ code: 'builds.badRows', params: { name: 'bad', found: 6, expected: 0 } })
  await core.client.sources.update({ id, change: { skipBadRows: 6 } })
  await core.client.builds.start({ id: build.id })
  const { mixId } = await until(core, build.id, 'done')
  expect((await core.client.mixes.get({ id: mixId! })).outcomes[0]!.badRows).toHaveLength(6)
})

test('a field that is corrected is read anew; one that is not there is named', async () => {
  const place = createPlace()
  const core = await place.start()
  const path = join(place.folder, 'texts/two.jsonl')
  writeFileSync(path, prose.map((text, i) => JSON.stringify({ text, summary: `in short ${i}` })).join('\n'))
  const { id } = await core.client.sources.add({ paths: [path] })
  const before = await rested(core, id)
  await core.client.sources.update({ id, change: { mapping: { text: 'summary', id: null, stars: null } } })
  const after = await rested(core, id)
  expect(after.report!.examples[0]!.text).toBe('in short 0')
  expect(after.report!.fingerprint).not.toBe(before.report!.fingerprint)
  expect(after.spec.licence).toBe('unknown')
  await core.client.sources.update({ id, change: { mapping: { text: 'nothing', id: null, stars: null } } })
  expect((await rested(core, id)).report).toMatchObject({ badRowCount: 80, documents: 0 })
})

test('files of a browser arrive in pieces, a name cannot lead out, and what no source names is cleared away', async () => {
  const place = createPlace()
  const core = await place.start()
  const { sources } = core.client
  const { uploadId } = await sources.beginUpload({ sizeBytes: 100 })
  const send = (file: string, text: string, offset: number, isLast: boolean): Promise<object> => sources.upload({ uploadId, file, offset, data: new Blob([text]), isLast })
  await send('my texts/a.txt', `${prose[0]} `, 0, false)
  await send('my texts/a.txt', prose[1]!, prose[0]!.length + 1, true)
  for (const name of ['../out.txt', '/.hidden', 'a/../../b.txt', 'C:\\x.txt']) await expect(send(name, 'x', 0, true), name).rejects.toMatchObject({ code: 'uploads.badName' })
  await expect(sources.beginUpload({ sizeBytes: 1e18 })).rejects.toMatchObject({ code: 'disk.tooSmall' })
  const { id } = await sources.endUpload({ uploadId, name: 'dropped' })
  expect((await rested(core, id)).report!.examples[0]!.text).toBe(`${prose[0]} ${prose[1]}`.slice(0, 400))
  await sources.beginUpload({ sizeBytes: 1 })
  const folder = join(place.folder, 'library/uploads')
  expect(readdirSync(folder)).toHaveLength(2)
  await core.close()
  const again = await place.start()
  expect(readdirSync(folder)).toEqual([uploadId])
  expect((await again.client.sources.remove({ id })).freedBytes).toBeGreaterThan(0)
  expect(readdirSync(folder)).toEqual([])
})

test('a data set is fetched from a mirror that drops connections, with the token, stopped and resumed', async () => {
  const place = createPlace()
  const content = Buffer.from(Array.from({ length: 3000 }, () => JSON.stringify({ text: draw(30) })).join('\n'))
  const seen: { path: string; token: string | undefined }[] = []
  let isSlow = true
  const server = createServer((request, response) => {
    seen.push({ path: request.url!, token: request.headers.authorization })
    if (request.url!.startsWith('/api/')) return void response.end(JSON.stringify([{ type: 'file', path: 'train.jsonl', size: content.length }]))
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    response.writeHead(from > 0 ? 206 : 200, { etag: '"1"', 'content-length': content.length - from, ...(from > 0 && { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` }) })
    response.write(content.subarray(from, from + 200_000), () => !isSlow && setTimeout(() => response.destroy(), 5))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const core = await place.start()
  const { sources } = core.client
  expect(await sources.setHub({ mirror: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, token: 'secret' })).toMatchObject({ hasToken: true })
  const { id, state } = await sources.download({ request: { dataset: 'some/thing' } })
  expect(state).toBe('fetching')
  await expect.poll(async () => (await sources.list())[0]!.phase?.done ?? 0, { timeout: 10_000 }).toBeGreaterThan(0)
  expect((await sources.stop({ id })).state).toBe('stopped')
  await core.close()
  isSlow = false
  const again = await place.start()
  await again.client.sources.resume({ id })
  expect(await rested(again, id)).toMatchObject({ state: 'ready', spec: { name: 'thing' }, report: { documents: 3000 } })
  expect(new Set(seen.map(({ token }) => token))).toEqual(new Set(['Bearer secret']))
  expect(JSON.stringify(await again.client.sources.list()) + JSON.stringify(await again.client.sources.hub())).not.toContain('secret')
})

test('a list of addresses, from a server that drops connections, and a pattern go all the way to one mix held against the tasks', async () => {
  const place = createPlace()
  const files = new Map(['/one.jsonl', '/two.jsonl'].map((path) => [path, Buffer.from(Array.from({ length: 300 }, () => JSON.stringify({ text: draw(40) })).join('\n'))]))
  const requests: string[] = []
  const server = createServer((request, response) => {
    const content = files.get(request.url!)!
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    const isFirst = !requests.includes(request.url!)
    requests.push(request.url!)
    response.writeHead(from > 0 ? 206 : 200, { etag: '"1"', 'content-length': content.length - from, ...(from > 0 && { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` }) })
    if (isFirst) response.write(content.subarray(from, from + 20_000), () => setTimeout(() => response.destroy(), 5))
    else response.end(content.subarray(from))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const core = await place.start()
  const { client } = core
  const { port } = server.address() as AddressInfo
  const fetched = await client.sources.download({ request: { urls: [...files.keys()].map((path) => `http://127.0.0.1:${port}${path}`) } })
  const matched = await client.sources.add({ paths: [join(place.folder, 'texts/code/*.py')] })
  const found = [await rested(core, fetched.id), await rested(core, matched.id)]
  expect(found.map(({ state, report }) => [state, report?.files, report?.documents])).toEqual([['ready', 2, 600], ['ready', 8, 8]])
  expect(requests.length).toBeGreaterThan(2)
  const draft = draftOf(found)
  const { comparedTasks } = await client.builds.preview({ draft })
  expect(comparedTasks.map(({ task }) => task)).toEqual((await client.evaluations.tasks()).map(({ task }) => task))
  const { id } = await client.builds.create({ draft })
  await client.builds.start({ id })
  const details = await client.mixes.get({ id: (await until(core, id, 'done')).mixId! })
  expect(details.mix.domains.map(({ documents }) => documents)).toEqual([600, 8])
  expect(details.comparedTasks).toEqual(comparedTasks)
})

test('folders are listed without what is hidden; hidden and system places are refused, also behind a link', async () => {
  const place = createPlace()
  const core = await place.start()
  const { sources } = core.client
  writeFileSync(join(place.folder, 'texts/.secret.txt'), 'x')
  symlinkSync(join(place.folder, 'texts/.secret.txt'), join(place.folder, 'texts/link.txt'))
  const listed = await sources.browse({ path: join(place.folder, 'texts') })
  expect(listed.entries.map(({ name, isFolder }) => [name, isFolder])).toEqual([['code', true], ['link.txt', false], ['prose.jsonl', false]])
  expect((await sources.browse()).path).toBe(homedir())
  for (const path of [join(place.folder, 'texts/link.txt'), join(place.folder, 'texts/.secret.txt'), '/proc/self/environ', '~/.ssh/id_rsa']) await expect(sources.add({ paths: [path] }), path).rejects.toMatchObject({ code: 'source.closedPath' })
  const missing = await sources.add({ paths: [join(place.folder, 'nowhere')] })
  expect(await rested(core, missing.id)).toMatchObject({ state: 'failed', error: { code: 'source.notFound' } })
})

test('a tokenizer is taken in once, whatever it is named, and what is none is refused', async () => {
  const place = createPlace()
  const core = await place.start()
  const source = await core.client.sources.add({ paths: [join(place.folder, 'texts')] })
  await rested(core, source.id)
  const { id } = await core.client.builds.create({ draft: draftOf([source]) })
  await core.client.builds.start({ id })
  const { mixId } = await until(core, id, 'done')
  const loaded = await core.client.tokenizers.load({ path: join(place.folder, 'library/mixes', mixId!, 'tokenizer.json') })
  expect(loaded).toMatchObject({ vocabularySize: 400, hasEndOfText: true })
  expect((await core.client.tokenizers.list()).map((one) => one.id)).toEqual([loaded.id])
  await expect(core.client.tokenizers.load({ name: 'x', data: new Blob(['{}']) })).rejects.toMatchObject({ code: expect.stringMatching(/^tokenizer/) })
  await expect(core.client.tokenizers.load({ name: 'x', data: new Blob(['no']) })).rejects.toMatchObject({ code: 'file.notJson' })
  const preview = await core.client.builds.preview({ draft: draftOf([source], { tokenizer: loaded.id }) })
  expect(preview.tokenizer).toBe('chosen')
})
