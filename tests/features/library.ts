/** A temporary library with a core on it whose runners follow a script. Everything is stopped and removed after the test. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { startCore, type Core } from '#core/main.ts'
import type { Host } from '#core/shared/host.ts'
import type { Run, RunStatus } from '#core/shared/runs.ts'
import type { Script } from './fake-runner.ts'
import { hostOn } from './host.ts'
import { recipe } from './recipe.ts'

export type Library = {
  path: string
  host: Host
  log: string[]
  script(script: Script): void
  start(): Promise<Core>
}

export function createLibrary(): Library {
  const path = mkdtempSync(join(tmpdir(), 'moe-library-'))
  const cores: Core[] = []
  onTestFinished(async () => {
    for (const core of cores) await core.close()
    rmSync(path, { recursive: true, force: true })
  })
  mkdirSync(join(path, 'resources', 'presets'), { recursive: true })
  writeFileSync(join(path, 'resources', 'presets', 'quickstart.json'), JSON.stringify(recipe({ name: 'Quick start', steps: 20 })))
  for (const [stage, set] of [['sft', 'instructions'], ['dpo', 'preferences']] as const) {
    const preset = { name: `Quick start · ${stage}`, stage, sequenceLength: 16, sequencesPerStep: 4, steps: 10, checkpointEverySteps: 5, adaptation: { data: [set] } }
    writeFileSync(join(path, 'resources', 'presets', `quickstart-${stage}.json`), JSON.stringify(preset))
  }
  const log: string[] = []
  const host = hostOn(path, log)
  return {
    path,
    host,
    log,
    script: (script) => writeFileSync(join(path, 'script.json'), JSON.stringify(script)),
    async start() {
      const core = await startCore(host)
      cores.push(core)
      return core
    },
  }
}

/** Waits until a run has one of these states. Fails when it comes to rest in another. */
export async function until(core: Core, id: string, ...statuses: RunStatus[]): Promise<Run> {
  return untilRun(core, id, (run) => statuses.includes(run.status))
}

export async function untilRun(core: Core, id: string, isThere: (run: Run) => boolean): Promise<Run> {
  const stopper = new AbortController()
  const timer = setTimeout(() => stopper.abort(), 10_000)
  try {
    for await (const event of await core.client.runs.watch({ id }, { signal: stopper.signal })) {
      if (event.type === 'run' && isThere(event.run)) return event.run
    }
  } finally {
    clearTimeout(timer)
  }
  throw new Error(`run ${id} never got there: ${JSON.stringify(await core.client.runs.get({ id }))}`)
}

/** The whole series of a run. */
export async function series(core: Core, id: string, key = 'loss'): Promise<{ steps: number[]; values: number[] }> {
  const [found] = await core.client.runs.metrics({ id, keys: [key], maxPoints: 100_000 })
  return { steps: found!.steps, values: found!.values }
}

export const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1)
