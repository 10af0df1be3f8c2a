/**
 * A run on a real Ray with two CPU workers beside the same run on this machine: same weights, same batches, curves that lie on one another; a
 * core that closes and another that picks the job up; the checkpoint that comes back; a script that fails. Skipped, loudly, where
 * MOE_PYTHON (or python3) lacks ray[train], torch or transformers.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startCore, type Core } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import { rayClient } from '#core/ray/client.ts'
import type { Run, RunConfig, RunEvent } from '#core/shared/runs.ts'
import { makeTinyLibrary, tinyConfig, type TinyLibrary } from '../runs/tiny-library.ts'

const python = process.env.MOE_PYTHON ?? 'python3'
const needed = ['torch', 'transformers', 'ray', 'pyarrow', 'pandas', 'aiohttp']
const probe = spawnSync(python, ['-c', `import importlib.util as u; print(*[m for m in ${JSON.stringify(needed)} if u.find_spec(m) is None])`], { encoding: 'utf8' })
const reason = probe.status === 0 ? (probe.stdout.trim() === '' ? undefined : `${python} lacks ${probe.stdout.trim()}`) : `${python} does not run`

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  await new Promise((done) => server.close(done))
  return port
}

describe.skipIf(reason !== undefined)(`a run on a real Ray${reason === undefined ? '' : ` (skipped: ${reason})`}`, { timeout: 240_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'moe-ray-'))
  let ray: ChildProcess
  let address: string
  let library: TinyLibrary
  let core: Core

  const open = (): Promise<Core> => startCore(nodeHost({ kind: 'test', ...library }))
  const config = (overrides: Record<string, unknown> = {}, isLocal = false): RunConfig => {
    const shared = join(folder, 'shared')
    mkdirSync(shared, { recursive: true })
    return tinyConfig({ steps: 24, checkpointEverySteps: 12, evaluateEverySteps: 12, cluster: isLocal ? null : { address, workers: 2, folder: shared, python }, ...overrides })
  }
  async function follow(id: string, until: (run: Run) => boolean): Promise<Run> {
    const events: AsyncIterable<RunEvent> = await core.client.runs.watch({ id })
    for await (const event of events) if (event.type === 'run' && until(event.run)) return event.run
    throw new Error(`the events of ${id} ended`)
  }
  const isOver = ({ status }: Run): boolean => ['done', 'failed', 'stopped', 'interrupted'].includes(status)

  beforeAll(async () => {
    library = makeTinyLibrary()
    mkdirSync(join(library.resourcesPath, 'ray'), { recursive: true })
    cpSync(resolve(import.meta.dirname, '../../resources/ray/train.py'), join(library.resourcesPath, 'ray/train.py'))
    const [port, dashboard, agent] = [await freePort(), await freePort(), await freePort()]
    address = `http://127.0.0.1:${dashboard}`
    const args = ['start', '--head', '--block', `--port=${port}`, '--num-cpus=2', '--include-dashboard=true', '--dashboard-host=127.0.0.1', `--dashboard-port=${dashboard}`, `--dashboard-agent-listen-port=${agent}`, '--disable-usage-stats', '--object-store-memory=200000000', `--temp-dir=${join(folder, 'r')}`]
    ray = spawn(python, ['-m', 'ray.scripts.scripts', ...args], { stdio: 'ignore', env: { ...process.env, RAY_USAGE_STATS_ENABLED: '0' } })
    for (let tries = 0; ; tries++) {
      if (await rayClient(address).check().then(() => true, () => false)) break
      if (tries > 120) throw new Error('Ray did not start')
      await new Promise((done) => setTimeout(done, 500))
    }
    core = await open()
  }, 120_000)

  afterAll(async () => {
    await core?.close()
    if (ray?.exitCode === null) {
      ray.kill('SIGTERM')
      await new Promise((done) => ray.once('exit', done))
    }
    rmSync(folder, { recursive: true, force: true })
    rmSync(resolve(library.libraryPath, '..'), { recursive: true, force: true })
  })

  test('its curve lies on the local one, and its checkpoint comes back', async () => {
    const local = await core.client.runs.create({ config: config({ name: 'local' }, true) })
    expect((await follow(local.id, isOver)).error).toBeNull()
    const { id } = await core.client.runs.create({ config: config({ name: 'on Ray' }) })
    await follow(id, ({ step, status }) => step >= 1 || status === 'failed')
    // The workbench closes and opens again: the job goes on meanwhile.
    await core.close()
    core = await open()
    const run = await follow(id, isOver)
    expect(run.error).toBeNull()
    expect(run).toMatchObject({ status: 'done', step: 24, runningOn: { kind: 'ray', name: '2 × CPU' } })
    for (const key of ['loss', 'loadBalance', 'routerZ', 'learningRate', 'gradNorm', 'validation', 'validation/animals']) {
      const [a, b] = await Promise.all([local.id, id].map(async (of) => (await core.client.runs.metrics({ id: of, keys: [key] }))[0]!))
      expect(b!.steps, key).toEqual(a!.steps)
      const difference = Math.max(...a!.values.map((value, i) => Math.abs(value - b!.values[i]!) / Math.max(1, Math.abs(value))))
      expect(difference, key).toBeLessThan(1e-4)
    }
    const [newest] = await core.client.checkpoints.list({ runId: id })
    expect(newest).toMatchObject({ step: 24, valid: true })
    expect((await core.client.checkpoints.verify({ id: newest!.id })).valid).toBe(true)
  })

  test('a script that fails says why in the log of its run', async () => {
    const { id } = await core.client.runs.create({ config: config({ cluster: { address, workers: 2, folder: join(folder, 'shared'), python: `${python} -c "raise ValueError('no such thing')"` } }) })
    expect(await follow(id, isOver)).toMatchObject({ status: 'failed', error: { code: 'ray.failed', params: { found: expect.stringContaining('no such thing') as string } } })
    expect((await core.client.runs.log({ id })).some(({ level, text }) => level === 'error' && text.includes('ValueError: no such thing'))).toBe(true)
  })
})
