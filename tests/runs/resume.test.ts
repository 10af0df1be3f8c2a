/**
 * A run that was stopped, whose runner was killed, or whose core was killed, at any moment, goes on to the same bits as one that ran
 * through: same losses, same final weights, no gap and no repeat in its series. Real core, real runner processes, real files.
 * The other stages are in stages.test.ts and adaptation.test.ts.
 */
import { fork } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Core } from '#core/main.ts'
import type { RunConfig } from '#core/shared/runs.ts'
import { curveOf, follow, openCore, type Curve } from './following.ts'
import { makeTinyLibrary, tinyConfig, type TinyLibrary } from './tiny-library.ts'

const libraries: TinyLibrary[] = []
let straight: Curve

function newLibrary(): TinyLibrary {
  const library = makeTinyLibrary()
  libraries.push(library)
  return library
}

const open = async (library: TinyLibrary): Promise<Core> => (await openCore(library)).core

async function runThrough(config: RunConfig): Promise<Curve> {
  const library = newLibrary()
  const core = await open(library)
  const { id } = await core.client.runs.create({ config })
  expect((await follow(core, id, ['done', 'failed', 'interrupted'])).error).toBeNull()
  const curve = await curveOf(core, library, id)
  await core.close()
  return curve
}

async function resumeToEnd(core: Core, library: TinyLibrary, id: string): Promise<Curve> {
  await core.client.runs.resume({ id })
  const run = await follow(core, id, ['done', 'failed', 'stopped'])
  expect(run.status, JSON.stringify(run.error)).toBe('done')
  return curveOf(core, library, id)
}

beforeAll(async () => {
  straight = await runThrough(tinyConfig())
})

afterAll(() => libraries.forEach(({ libraryPath }) => rmSync(join(libraryPath, '..'), { recursive: true, force: true })))

describe('the resumed curve is the uninterrupted one, bit for bit', () => {
  test('the run learns, and its series are whole', () => {
    expect(straight.steps.loss).toEqual(Array.from({ length: 400 }, (_, i) => i + 1))
    expect(straight.steps.validation).toEqual([0, 50, 100, 150, 200, 250, 300, 350, 400])
    expect(straight.values.validation!.at(-1)!).toBeLessThan(straight.values.validation![0]! - 1.5)
  })

  test('with one thread instead of two', async () => {
    expect(await runThrough(tinyConfig({ threads: 1 }))).toEqual(straight)
  })

  test('stopped and saved twice, resumed twice', async () => {
    const library = newLibrary()
    const core = await open(library)
    const { id } = await core.client.runs.create({ config: tinyConfig() })
    for (const [round, step] of [75, 220].entries()) {
      await follow(core, id, ['done'], (at) => at >= step)
      await core.client.runs.stop({ id, save: true })
      const run = await follow(core, id, ['stopped', 'done'])
      expect(run.status).toBe('stopped')
      expect(run.resumableStep).toBe(run.step)
      if (round === 0) await core.client.runs.resume({ id })
    }
    expect(await resumeToEnd(core, library, id)).toEqual(straight)
    await core.close()
  })

  test('kill -9 of the runner between checkpoints', async () => {
    const library = newLibrary()
    const { core, killRunner } = await openCore(library)
    const { id } = await core.client.runs.create({ config: tinyConfig() })
    await follow(core, id, ['done'], (at) => at >= 150)
    killRunner()
    const run = await follow(core, id, ['interrupted', 'done', 'failed'])
    expect(run.status).toBe('interrupted')
    // Killed right at a step that saves, it may or may not have got that checkpoint whole onto the disk; no later step exists then.
    const whole = [Math.floor(run.step / 60) * 60, Math.floor((run.step - 1) / 60) * 60]
    expect(whole).toContain(run.resumableStep)
    expect(await resumeToEnd(core, library, id)).toEqual(straight)
    await core.close()
  })

  test('kill -9 of the core: the runner saves and ends, the next core finds it', async () => {
    const library = newLibrary()
    const child = fork(join(import.meta.dirname, 'core-process.ts'), [library.libraryPath, library.resourcesPath, JSON.stringify(tinyConfig())], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] })
    let id = ''
    await new Promise<void>((resolve, reject) => {
      child.once('exit', () => reject(new Error('the core ended by itself')))
      child.stdout!.on('data', (chunk: Buffer) => {
        id ||= /run (\S+)/.exec(String(chunk))?.[1] ?? ''
        const step = Number(/step (\d+)/.exec(String(chunk))?.[1] ?? 0)
        if (step < 130) return
        child.removeAllListeners('exit')
        child.once('exit', () => resolve())
        child.kill('SIGKILL')
      })
    })
    const core = await open(library)
    const run = await core.client.runs.get({ id })
    expect(run.status).toBe('interrupted')
    expect(await resumeToEnd(core, library, id)).toEqual(straight)
    await core.close()
  })

  test('a damaged newest checkpoint is not trusted: the one before is resumed', async () => {
    const { truncateSync } = await import('node:fs')
    const library = newLibrary()
    const core = await open(library)
    const { id } = await core.client.runs.create({ config: tinyConfig() })
    await follow(core, id, ['done'], (at) => at >= 200)
    await core.client.runs.stop({ id, save: true })
    await follow(core, id, ['stopped'])
    const [newest, before] = (await core.client.checkpoints.list({ runId: id })).sort((a, b) => b.step - a.step)
    truncateSync(join(library.libraryPath, 'checkpoints', newest!.id, 'model.safetensors'), 1000)
    await core.close()
    const again = await open(library)
    await again.client.checkpoints.verify({ id: newest!.id })
    expect((await again.client.runs.get({ id })).resumableStep).toBe(before!.step)
    expect(await resumeToEnd(again, library, id)).toEqual(straight)
    await again.close()
  })
})
