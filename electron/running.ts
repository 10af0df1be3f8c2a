/**
 * What the tray says of runs: those under way with their share done, and how many wait. The core's process follows the runs and tells
 * the shell when a line changes; wording and layout are here, free of Electron, so that a test can read them.
 */
import type { Core } from '#core/main.ts'
import type { Run } from '#core/shared/runs.ts'
import type { Words } from './words.ts'

export type Running = { runs: { name: string; percent: number }[]; queued: number }

export const nothing: Running = { runs: [], queued: 0 }

/** A menu is no list of runs: longer names are cut, more runs are not named. */
const longestName = 40
const mostRuns = 5

export function runningOf(runs: readonly Run[]): Running {
  const underWay = runs.filter(({ status }) => status === 'running' || status === 'stopping')
  const percentOf = ({ step, config }: Run): number => Math.floor((100 * step) / Math.max(1, config.steps))
  return { runs: underWay.map((run) => ({ name: run.name, percent: percentOf(run) })), queued: runs.filter(({ status }) => status === 'queued').length }
}

/** Lines of the tray's menu, the first of which are also its tooltip. */
export function describeRunning({ runs, queued }: Running, words: Words): string[] {
  const cut = (name: string): string => (name.length > longestName ? `${name.slice(0, longestName - 1)}…` : name)
  const lines = runs.slice(0, mostRuns).map(({ name, percent }) => words.trayRun.replace('{percent}', () => String(percent)).replace('{name}', () => cut(name)))
  if (queued > 0) lines.push(words.trayQueued.replace('{n}', String(queued)))
  return lines.length > 0 ? lines : [words.trayIdle]
}

/** Tells what runs, now and whenever it changed by something that the tray shows. Ends with the signal. */
export async function followRunning(client: Core['client'], tell: (running: Running) => void, signal: AbortSignal): Promise<void> {
  const known = new Map<string, Run>()
  let last = ''
  const events = await client.runs.watchAll(undefined, { signal })
  for (const run of await client.runs.list()) known.set(run.id, run)
  const update = (): void => {
    const running = runningOf([...known.values()])
    const next = JSON.stringify(running)
    if (next !== last) tell(running)
    last = next
  }
  update()
  for await (const event of events) {
    if (event.type === 'run') known.set(event.run.id, event.run)
    else if (event.type === 'removed') known.delete(event.runId)
    update()
  }
}
