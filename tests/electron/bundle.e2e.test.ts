/**
 * The bundled core and runner, as they ship in the desktop app, started by plain Node: their imports resolve, the addon
 * and SQLite are found from where the bundle lies, and the core answers the shell and stops when told. Only Electron's
 * parent port is played here, by Node's IPC channel.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { afterAll, describe, expect, test } from 'vitest'
import type { FromRunner, ToRunner } from '#core/shared/jobs.ts'
import { mixSpecSchema } from '#core/shared/mixes.ts'
import type { FromCore, ToCore } from '#electron/link.ts'

const root = resolve(import.meta.dirname, '../..')
const built = join(root, 'out/main')
const isBuilt = existsSync(join(built, 'core.js'))
const folder = mkdtempSync(join(tmpdir(), 'moe-bundle-'))
const paths = { library: join(folder, 'library'), resources: join(root, 'resources') }

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Resolves with the first message that `wanted` accepts; rejects when the process ends before. */
async function messageOf<T>(child: ChildProcess, wanted: (message: T) => boolean): Promise<T> {
  const found = Promise.withResolvers<T>()
  child.on('message', (message) => wanted(message as T) && found.resolve(message as T))
  child.on('exit', (code) => found.reject(new Error(`ended with code ${code}`)))
  return found.promise
}

describe.skipIf(!isBuilt)(`the bundle${isBuilt ? '' : ' (skipped: out/ is not built; npm run build)'}`, () => {
  test('the core opens a library, answers the shell and stops when told', async () => {
    const parentPort = join(folder, 'parent-port.mjs')
    writeFileSync(parentPort, `process.parentPort = {
      postMessage: (message) => process.send(message),
      on: (event, listener) => process.on('message', (data) => listener({ data, ports: [] })),
    }`)
    const core = fork(join(built, 'core.js'), [paths.library, paths.resources, '0.0.0-test'], { execArgv: ['--import', pathToFileURL(parentPort).href] })
    const answer = messageOf<FromCore>(core, ({ type }) => type === 'activity')
    core.send({ type: 'activity' } satisfies ToCore)
    expect(await answer).toEqual({ type: 'activity', running: 0 })
    expect(existsSync(join(paths.library, 'library.sqlite'))).toBe(true)
    const ended = once(core, 'exit')
    core.send({ type: 'stop' } satisfies ToCore)
    expect(await ended).toEqual([0, null])
  })

  test('the runner finds the addon and measures the CPU', async () => {
    const runner = fork(join(built, 'runner.js'), [], { serialization: 'advanced' })
    const measured = messageOf<FromRunner>(runner, ({ type }) => type === 'measured' || type === 'failed')
    const ended = once(runner, 'exit')
    runner.send({ type: 'start', job: { kind: 'measure', paths, deviceId: 'cpu', kernels: {} } } satisfies ToRunner)
    expect(await measured).toMatchObject({ type: 'measured', measured: { flopsPerSecond: expect.any(Number) } })
    expect(await ended).toEqual([0, null])
  })

  test('the runner builds a mix: its threads for shards and for Parquet are found beside it', async () => {
    const texts = Array.from({ length: 40 }, (_, i) => `document ${i} about the number ${i * i} and what follows it`)
    writeFileSync(join(folder, 'lines.jsonl'), texts.map((text) => JSON.stringify({ text })).join('\n'))
    writeFileSync(join(folder, 'rows.parquet'), Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'text', data: texts.map((text) => `row: ${text}`), type: 'STRING' }] })))
    const spec = mixSpecSchema.parse({ name: 'bundled', sources: ['lines.jsonl', 'rows.parquet'].map((file, i) => ({ name: `s${i}`, paths: [join(folder, file)] })), vocabularySize: 300, filters: { near: {}, contamination: { commonIn: 1 } }, heldOut: { fraction: 0.1, floorBytes: 0 } })
    const runner = fork(join(built, 'runner.js'), [], { serialization: 'advanced' })
    const answer = messageOf<FromRunner>(runner, ({ type }) => type === 'mix' || type === 'failed')
    const ended = once(runner, 'exit')
    runner.send({ type: 'start', job: { kind: 'buildMix', paths, spec, textBytes: null } } satisfies ToRunner)
    expect(await answer).toMatchObject({ type: 'mix', mix: { domains: [{ name: 's0' }, { name: 's1' }] } })
    expect(await ended).toEqual([0, null])
  })

  const hasVulkan = process.env.VK_ICD_FILENAMES !== undefined
  test.skipIf(!hasVulkan)(`the runner finds Dawn and a card through it${hasVulkan ? '' : ' (skipped: no software Vulkan here)'}`, async () => {
    const runner = fork(join(built, 'runner.js'), [], { serialization: 'advanced' })
    const listed = messageOf<FromRunner>(runner, (message) => message.type === 'failed' || (message.type === 'devices' && message.devices.length > 1))
    runner.send({ type: 'start', job: { kind: 'devices', paths } } satisfies ToRunner)
    expect(await listed).toMatchObject({ type: 'devices', devices: expect.arrayContaining([expect.objectContaining({ kind: 'webgpu', isSoftware: true })]) })
  })
})
