/** A real core on a tiny library: following its runs, killing their runners, and everything that a finished run left. */
import { join } from 'node:path'
import { startCore, type Core } from '#core/main.ts'
import { nodeHost } from '#core/node-host.ts'
import type { Run, RunEvent, RunStatus } from '#core/shared/runs.ts'
import { readCheckpoint } from '#core/train/checkpoint.ts'
import type { TinyLibrary } from './tiny-library.ts'

/** A core, and the means to kill the runner that it started last as no signal handler can see. */
export async function openCore(library: TinyLibrary): Promise<{ core: Core; killRunner(): void }> {
  const host = nodeHost({ kind: 'test', ...library })
  let pid = 0
  const core = await startCore({
    ...host,
    startRunner() {
      const runner = host.startRunner()
      pid = runner.pid
      return runner
    },
  })
  return { core, killRunner: () => void process.kill(pid, 'SIGKILL') }
}

export const atRest: RunStatus[] = ['done', 'failed', 'stopped', 'interrupted']

/** Waits until the run is in one of `statuses`, or `until` says so. */
export async function follow(core: Core, id: string, statuses: RunStatus[] = atRest, until: (step: number) => boolean = () => false): Promise<Run> {
  const events: AsyncIterable<RunEvent> = await core.client.runs.watch({ id })
  for await (const event of events) {
    if (event.type === 'run' && statuses.includes(event.run.status)) return event.run
    if (event.type === 'steps' && until(event.steps.at(-1)!.step)) return core.client.runs.get({ id })
  }
  throw new Error(`the events of ${id} ended`)
}

export type Curve = { steps: Record<string, number[]>; values: Record<string, number[]>; weights: string; moments: string }

/** Series that depend on the clock. */
const timed = ['tokensPerSecond', 'peakFraction', 'seconds']

export async function newestCheckpoint(core: Core, runId: string): Promise<string> {
  return (await core.client.checkpoints.list({ runId })).sort((a, b) => b.step - a.step)[0]!.id
}

/** Everything a finished run left: series and the hashes of its last weights and moments. */
export async function curveOf(core: Core, library: TinyLibrary, id: string): Promise<Curve> {
  const series = (await core.client.runs.metrics({ id, keys: null, maxPoints: 1_000_000 })).filter(({ key }) => !timed.includes(key))
  const { manifest } = readCheckpoint(join(library.libraryPath, 'checkpoints', await newestCheckpoint(core, id)))
  const load = await core.client.runs.expertLoad({ id, maxPoints: 1_000_000 })
  return {
    steps: { ...Object.fromEntries(series.map(({ key, steps }) => [key, steps])), experts: load.steps },
    values: { ...Object.fromEntries(series.map(({ key, values }) => [key, values])), experts: [...new Float32Array(await load.values.arrayBuffer())] },
    weights: manifest.files['model.safetensors']!.sha256,
    moments: manifest.files['optimizer.safetensors']!.sha256,
  }
}
