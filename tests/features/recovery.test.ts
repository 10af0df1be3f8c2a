/**
 * Nothing is lost and nothing is made up: runners and cores are killed with SIGKILL, checkpoints are damaged, removed and
 * found again, and the resumed curve is the one an undisturbed run draws.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { mixHashOf, mixManifestSchema } from '#core/data/mix-manifest.ts'
import { isProcessAlive, processStart } from '#core/features/jobs/process.ts'
import { writeFileAtomic } from '#core/formats/atomic.ts'
import { fakeLoss } from './fake-runner.ts'
import { createLibrary, series, until, untilRun, upTo, type Library } from './library.ts'
import { recipe } from './recipe.ts'

const whole = (steps: number, seed: number): { steps: number[]; values: number[] } => ({ steps: upTo(steps), values: upTo(steps).map((step) => fakeLoss(seed, step)) })
const runnerPid = (library: Library): number => Number(readFileSync(join(library.path, 'pid-train'), 'utf8'))

test('a runner that is killed leaves an interrupted run, with its last steps; resumed, the curve is whole', async () => {
  const library = createLibrary()
  library.script({ dieAtStep: 8 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ seed: 4 }) })
  const run = await until(core, id, 'interrupted')
  expect(run).toMatchObject({ step: 8, resumableStep: 5, error: { code: 'jobs.died', params: { how: 'SIGKILL' } } })
  expect((await series(core, id)).steps).toEqual(upTo(8))
  library.script({})
  await core.client.runs.resume({ id })
  await until(core, id, 'done')
  expect(await series(core, id)).toEqual(whole(20, 4))
})

test('the last words of a runner that crashed are in the log', async () => {
  const library = createLibrary()
  library.script({ crashAtStep: 3 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe() })
  expect((await until(core, id, 'interrupted')).error).toMatchObject({ code: 'jobs.died', params: { how: 'exit code 3' } })
  const errors = (await core.client.runs.log({ id })).filter(({ level }) => level === 'error').map(({ text }) => text)
  expect(errors).toEqual(['bad things', 'happened here', 'The process ended unexpectedly (exit code 3)'])
})

/** A core in its own process with one run under way, at step 7 or later. */
async function startDoomedCore(library: Library, seed: number): Promise<{ child: ChildProcess; id: string }> {
  const child = fork(join(import.meta.dirname, 'core-child.ts'), [library.path, '40', String(seed)], { execArgv: [] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const id = await new Promise<string>((resolve, reject) => {
    child.once('message', (message) => resolve(String(message)))
    child.once('exit', (code) => reject(new Error(`the core ended with ${code}`)))
  })
  while (!existsSync(join(library.path, 'checkpoints', `${id}-5`))) await sleep(10)
  await sleep(40)
  return { child, id }
}

async function killed(child: ChildProcess): Promise<void> {
  const exited = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await exited
}

test('a killed core: the run is interrupted, its runner saves without it, resume waits for that and takes it in', async () => {
  const library = createLibrary()
  library.script({ stepMs: 12, saveMs: 600 })
  const { child, id } = await startDoomedCore(library, 5)
  await killed(child)
  const pid = runnerPid(library)
  expect(isProcessAlive(pid, null)).toBe(true)

  const core = await library.start()
  const found = await core.client.runs.get({ id })
  // A slow machine may let the runner reach its next checkpoint, at 10, before the core is killed.
  expect(found).toMatchObject({ status: 'interrupted', error: { code: 'runs.coreDied' } })
  expect([5, 10]).toContain(found.resumableStep)
  library.script({})
  await core.client.runs.resume({ id })
  expect(isProcessAlive(pid, null)).toBe(false)
  const from = (await core.client.runs.log({ id })).map(({ text }) => text).find((text) => text.startsWith('Resumed at step '))
  const savedStep = Number(from?.split(' ').at(-1))
  expect(savedStep).toBeGreaterThan(5)
  await until(core, id, 'done')
  expect(await series(core, id)).toEqual(whole(40, 5))
})

test('a killed core whose runner is gone too: the run resumes from its last checkpoint', async () => {
  const library = createLibrary()
  library.script({ stepMs: 12, saveMs: 5000 })
  const { child, id } = await startDoomedCore(library, 6)
  process.kill(runnerPid(library), 'SIGSTOP')
  await killed(child)
  process.kill(runnerPid(library), 'SIGKILL')
  // What a write that was cut short leaves.
  mkdirSync(join(library.path, 'checkpoints', '.tmp-0123'))
  writeFileSync(join(library.path, 'checkpoints', '.tmp-0123', 'model.safetensors'), 'half')
  await sleep(50)

  const core = await library.start()
  expect(readdirSync(join(library.path, 'checkpoints')).filter((name) => name.startsWith('.'))).toEqual([])
  const run = await core.client.runs.get({ id })
  expect(run.status).toBe('interrupted')
  expect(run.resumableStep).toBeGreaterThanOrEqual(5)
  library.script({})
  await core.client.runs.resume({ id })
  await until(core, id, 'done')
  expect(await series(core, id)).toEqual(whole(40, 6))
})

test('two cores never serve one library; the lock of a dead one is taken over', async () => {
  const library = createLibrary()
  const core = await library.start()
  await expect(library.start()).rejects.toMatchObject({ code: 'library.busy', params: { pid: process.pid } })
  await core.close()
  writeFileSync(join(library.path, 'library.lock'), JSON.stringify({ pid: process.pid, start: 'another process of that number' }))
  const again = await library.start()
  expect(JSON.parse(readFileSync(join(library.path, 'library.lock'), 'utf8'))).toEqual({ pid: process.pid, start: processStart(process.pid) })
  expect(await again.client.runs.list()).toEqual([])
})

async function stoppedRun(library: Library): Promise<{ core: Awaited<ReturnType<Library['start']>>; id: string }> {
  library.script({ dieAtStep: 18 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ seed: 8 }) })
  await until(core, id, 'interrupted')
  library.script({})
  return { core, id }
}

test('a damaged newest checkpoint is never used: the older one is', async () => {
  const library = createLibrary()
  const { core, id } = await stoppedRun(library)
  writeFileSync(join(library.path, 'checkpoints', `${id}-15`, 'model.safetensors'), 'weights of step 51')
  const resumed = await core.client.runs.resume({ id })
  expect(resumed.step).toBe(10)
  await until(core, id, 'done')
  expect(await series(core, id)).toEqual(whole(20, 8))
})

test('verify finds damage and repair', async () => {
  const library = createLibrary()
  const { core, id } = await stoppedRun(library)
  const file = join(library.path, 'checkpoints', `${id}-15`, 'model.safetensors')
  const content = readFileSync(file)
  writeFileSync(file, 'weights of step 51')
  expect((await core.client.checkpoints.verify({ id: `${id}-15` })).valid).toBe(false)
  expect((await core.client.runs.get({ id })).resumableStep).toBe(10)
  writeFileSync(file, content)
  expect((await core.client.checkpoints.verify({ id: `${id}-15` })).valid).toBe(true)
  expect(library.log.join('\n')).toContain('model.safetensors has sha256')
})

test('with its checkpoints gone a run says so, and a resume begins anew', async () => {
  const library = createLibrary()
  const { core, id } = await stoppedRun(library)
  rmSync(join(library.path, 'checkpoints'), { recursive: true })
  await core.close()
  const again = await library.start()
  expect(await again.client.runs.get({ id })).toMatchObject({ step: 18, resumableStep: 0 })
  expect((await again.client.runs.resume({ id })).step).toBe(0)
  await until(again, id, 'done')
  expect(await series(again, id)).toEqual(whole(20, 8))
})

test('who was promised a step is not sent back to 0 unasked', async () => {
  const library = createLibrary()
  const { core, id } = await stoppedRun(library)
  for (const step of [5, 10, 15]) writeFileSync(join(library.path, 'checkpoints', `${id}-${step}`, 'model.safetensors'), 'weights of step !')
  await expect(core.client.runs.resume({ id })).rejects.toMatchObject({ code: 'runs.noUsableCheckpoint' })
  const run = await core.client.runs.get({ id })
  expect(run).toMatchObject({ status: 'interrupted', step: 18, resumableStep: 0 })
  expect((await core.client.runs.resume({ id })).step).toBe(0)
  await until(core, id, 'done')
})

test('a checkpoint and its run are found again by a store that lost them', async () => {
  const library = createLibrary()
  const { core, id } = await stoppedRun(library)
  await core.close()
  for (const name of readdirSync(library.path)) if (name.startsWith('library.sqlite')) rmSync(join(library.path, name))
  const again = await library.start()
  expect(await again.client.runs.list()).toMatchObject([{ id, status: 'interrupted', step: 15, resumableStep: 15, mixId: 'sample-mix' }])
  expect((await series(again, id)).steps).toEqual(upTo(15))
  await again.client.runs.resume({ id })
  await until(again, id, 'done')
  expect(await series(again, id)).toEqual(whole(20, 8))
})

test('a folder whose files do not match is not adopted, and is left as it is', async () => {
  const library = createLibrary()
  const { core, id } = await stoppedRun(library)
  await core.client.checkpoints.remove({ id: `${id}-5` })
  const folder = join(library.path, 'checkpoints', `${id}-15`)
  await core.close()
  cpSync(folder, join(library.path, 'checkpoints', 'stray'), { recursive: true })
  const again = await library.start()
  expect((await again.client.checkpoints.list({ runId: null })).map((checkpoint) => checkpoint.id)).toEqual([`${id}-15`, `${id}-10`])
  expect(existsSync(join(library.path, 'checkpoints', 'stray', 'manifest.json'))).toBe(true)
  expect(library.log.join('\n')).toContain(`checkpoint stray is not used: manifest.json names checkpoint ${id}-15`)
})

test('a run that was only stopped by a closing core goes on too', async () => {
  const library = createLibrary()
  library.script({ stepMs: 15 })
  const core = await library.start()
  const { id } = await core.client.runs.create({ config: recipe({ steps: 25, seed: 2 }) })
  await untilRun(core, id, ({ step }) => step >= 8)
  await core.close()
  library.script({})
  const again = await library.start()
  await again.client.runs.resume({ id })
  await until(again, id, 'done')
  expect(await series(again, id)).toEqual(whole(25, 2))
})

test('mixes on disk are found again, damaged ones are not offered', async () => {
  const library = createLibrary()
  const write = async (id: string, content: string): Promise<void> => {
    const folder = join(library.path, 'mixes', id)
    mkdirSync(folder, { recursive: true })
    const files = { 'news.train.bin': await writeFileAtomic(join(folder, 'news.train.bin'), [content]) }
    const base = { tokenizerHash: 'f'.repeat(64), tokenBytes: 2 as const, eosId: 0, files }
    const domain = { name: 'news', licence: 'CC0-1.0', fingerprint: 'e'.repeat(64), documents: 1, bytes: 4, validationDocuments: 0, trainTokens: 2, validationTokens: 0 }
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify(mixManifestSchema.parse({ format: 'moe-workbench-mix', version: 1, id, hash: mixHashOf(base), vocabularySize: 256, domains: [domain], ...base })))
  }
  await write('sample-0123456789ab', 'abcd')
  await write('sample-damaged', 'abcd')
  writeFileSync(join(library.path, 'mixes', 'sample-damaged', 'news.train.bin'), 'abcx')
  const core = await library.start()
  expect(await core.client.mixes.list()).toMatchObject([{ id: 'sample-0123456789ab', name: 'sample', trainTokens: 2 }])
  await core.close()
  rmSync(join(library.path, 'mixes', 'sample-0123456789ab', 'news.train.bin'))
  expect(await (await library.start()).client.mixes.list()).toEqual([])
})
