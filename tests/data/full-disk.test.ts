/**
 * Builds on a disk that runs full, a real one: a file system in memory of some megabytes. Mounting it takes Linux and root, so elsewhere these tests are
 * skipped and say so. What was finished must stay, nothing be listed as built, and the same build go on once there is space.
 */
import { execFile, execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildMixOf } from '#core/runner/build-mix.ts'
import { AppError } from '#core/shared/errors.ts'
import { mixSpecSchema } from '#core/shared/mixes.ts'
import { createRandom } from '#core/shared/random.ts'

const root = mkdtempSync(join(tmpdir(), 'moe-full-'))
const disk = join(root, 'disk')
const library = join(disk, 'library')
const filler = join(disk, 'filler')
const paths = { library, resources: resolve(import.meta.dirname, '../../resources') }
const spec = mixSpecSchema.parse({ name: 'full', sources: [{ name: 'texts', paths: ['texts.jsonl'] }], vocabularySize: 600, heldOut: { fraction: 0.1, floorBytes: 0 } })

/** 24 MB: a build asks for 16 and some beforehand. */
const canMount = ((): boolean => {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  mkdirSync(disk)
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', disk], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()
if (!canMount) process.stderr.write('full-disk.test.ts: SKIPPED, a small file system cannot be mounted here (needs Linux and root)\n')

beforeAll(() => {
  const random = createRandom(4, 'full')
  const text = (): string => Array.from({ length: 100 }, () => `word${random.nextBelow(5000)}`).join(' ')
  writeFileSync(join(root, 'texts.jsonl'), Array.from({ length: 800 }, () => JSON.stringify({ text: text() })).join('\n'))
})
afterAll(() => {
  if (canMount) execFileSync('umount', [disk])
  rmSync(root, { recursive: true, force: true })
})

/** Takes all space but `leftBytes`, as another program does. */
function fill(leftBytes: number): void {
  const file = openSync(filler, 'w')
  const piece = Buffer.alloc(64 << 10)
  try {
    for (;;) writeSync(file, piece)
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
  } finally {
    closeSync(file)
  }
  execFileSync('truncate', ['-s', String(statSync(filler).size - leftBytes), filler])
}

/** Builds; at the `at`-th report of `phase` the disk runs full. */
function build(phase?: string, at = 1, leftBytes = 0) {
  let reports = 0
  return buildMixOf(spec, root, paths, { threads: 1, shardBytes: 60_000, onProgress: (name) => name === phase && ++reports === at && fill(leftBytes) })
}
const listed = (folder: string): string[] => readdirSync(join(library, folder), { recursive: true, encoding: 'utf8' })

test.skipIf(!canMount)('a disk without room for a build is told before anything is written, and on the command line', async () => {
  mkdirSync(library)
  fill(4 << 20)
  await expect(build()).rejects.toMatchObject({ code: 'disk.tooSmall', params: { file: library, freeBytes: expect.any(Number), neededBytes: expect.any(Number) } })
  expect([listed('mixes'), listed('builds')]).toEqual([[], []])
  writeFileSync(join(root, 'mix.json'), JSON.stringify(spec))
  const cli = resolve(import.meta.dirname, '../../core/cli.ts')
  const answer = await new Promise<[number, string]>((done) => execFile(process.execPath, [cli, 'data', 'build', join(root, 'mix.json'), '--json', '--library', library], (error, stdout) => done([error ? Number(error.code) : 0, stdout])))
  expect([answer[0], JSON.parse(answer[1])]).toMatchObject([1, { error: { code: 'disk.tooSmall' } }])
  rmSync(filler)
})

test.skipIf(!canMount)('a disk that runs full in any phase is named; what is finished stays, nothing is listed, and the build goes on to the same bytes', async () => {
  const cases: [phase: string, at: number, leftBytes: number][] = [['tokenizer', 1, 0], ['tokenize', 6, 100_000], ['write', 1, 60_000], ['write', 1, 0]]
  let shards = new Map<string, number>()
  for (const [phase, at, leftBytes] of cases) {
    const failure = await build(phase, at, leftBytes).then(() => null, (error: unknown) => error)
    expect(failure, phase).toBeInstanceOf(AppError)
    expect(failure, phase).toMatchObject({ code: 'disk.full', hint: expect.stringContaining('Free some space') })
    expect((failure as AppError).message, phase).toContain(library)
    // Neither a mix nor a part of one; of the work only whole files.
    expect(listed('mixes'), phase).toEqual([])
    expect(listed('builds').filter((name) => /\.part$|\.tmp-/.test(name)), phase).toEqual([])
    rmSync(filler)
    const made = listed('builds').filter((name) => /texts-\d+\.(json|bin)$/.test(name))
    const stamps = new Map(made.map((name) => [name, statSync(join(library, 'builds', name)).mtimeMs]))
    for (const [name, stamp] of shards) expect(stamps.get(name), `${name} was made again`).toBe(stamp)
    shards = stamps
    if (phase === 'tokenize') expect(made.length).toBeGreaterThan(2)
    if (phase === 'write') expect(made.filter((name) => name.endsWith('.json')).length).toBeGreaterThan(8)
  }
  const manifest = await build()
  expect([listed('builds'), readdirSync(join(library, 'mixes'))]).toEqual([[], [manifest.id]])
  const folder = join(library, 'mixes', manifest.id)
  const undisturbed = await buildMixOf(spec, root, { ...paths, library: join(root, 'elsewhere') }, { threads: 1 })
  expect(undisturbed).toEqual(manifest)
  for (const name of readdirSync(folder)) expect(readFileSync(join(folder, name)).equals(readFileSync(join(root, 'elsewhere/mixes', manifest.id, name))), name).toBe(true)
})
