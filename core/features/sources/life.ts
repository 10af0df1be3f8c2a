/**
 * The life of a source: fetched if it has to be, looked at, ready. The store has what outlives this process; the phase is the job's.
 * What an earlier core left half done is stopped (a download) or looked at again.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import type { LibrarySource, Origin, SourceSpec } from '#core/shared/sources.ts'
import { findSource, listSources, putSource } from '#core/store/sources.ts'
import type { TaskEnd } from '../jobs/tasks.ts'
import { jobPaths, type Services } from '../services.ts'
import { hubSettings } from './hub.ts'

type Context = Pick<Services, 'host' | 'store' | 'tasks' | 'sourceNews'>

const keyOf = (id: string): string => `source ${id}`
export const downloadFolder = ({ libraryPath }: Services['host'], id: string): string => join(libraryPath, 'downloads', id)

/** The source with the phase that it is in. Throws sources.notFound. */
export function presentSource({ store, tasks }: Pick<Services, 'store' | 'tasks'>, id: string): LibrarySource {
  const source = findSource(store, id)
  if (source === null) throw new AppError('sources.notFound', `There is no source ${id}`, { params: { id }, hint: 'It may have been removed.' })
  return { ...source, phase: tasks.phase(keyOf(id)) }
}

/** Stores what changed of a source and tells every watcher how it stands now. */
export function changeSource(services: Context, id: string, change: Partial<LibrarySource>): LibrarySource {
  const before = presentSource(services, id)
  const source = { ...before, ...change }
  putSource(services.store, source)
  services.sourceNews.publish({ type: 'source', source })
  return source
}

/** `name`, or with a number behind it when another source has that name. */
export function freeName({ store }: Pick<Services, 'store'>, name: string, exceptId: string | null = null): string {
  const taken = new Set(listSources(store).filter(({ id }) => id !== exceptId).map(({ spec }) => spec.name))
  if (!taken.has(name)) return name
  for (let i = 2; ; i++) if (!taken.has(`${name}-${i}`)) return `${name}-${i}`
}

export function createSource(services: Context, spec: SourceSpec, origin: Origin, id = services.host.newId()): LibrarySource {
  const isDownload = origin.kind === 'download'
  putSource(services.store, { id, spec, origin, state: isDownload ? 'stopped' : 'ready', phase: null, report: null, error: null, createdAt: services.host.now() })
  return isDownload ? fetchSource(services, id) : lookAtSource(services, id)
}

/** Reads the source through in a process of its own. */
export function lookAtSource(services: Context, id: string): LibrarySource {
  const { tasks, host } = services
  const { spec } = presentSource(services, id)
  if (tasks.isActive(keyOf(id))) return presentSource(services, id)
  changeSource(services, id, { state: 'looking', error: null })
  tasks.start(keyOf(id), { kind: 'lookAtSource', paths: jobPaths(host), spec }, {
    phase: () => void changeSource(services, id, {}),
    message: (message) => message.type === 'report' && void changeSource(services, id, { report: message.report }),
    end: (end) => settle(services, id, end, 'ready'),
  })
  return presentSource(services, id)
}

/** Downloads what is missing, then looks. Throws sources.notFetched. */
export function fetchSource(services: Context, id: string): LibrarySource {
  const { tasks, host, store } = services
  const { origin } = presentSource(services, id)
  if (origin.kind !== 'download') throw new AppError('sources.notFetched', `Source ${id} is not a download`, { params: { id }, hint: 'Look at it again instead.' })
  if (tasks.isActive(keyOf(id))) return presentSource(services, id)
  const folder = downloadFolder(host, id)
  mkdirSync(folder, { recursive: true })
  changeSource(services, id, { state: 'fetching', error: null })
  const { hub, token } = hubSettings(store)
  tasks.start(keyOf(id), { kind: 'fetchSource', paths: jobPaths(host), request: origin.request, folder, hub, token }, {
    phase: () => void changeSource(services, id, {}),
    message: (message) => message.type === 'log' && host.log(message.line.level, message.line.text),
    end: (end) => (end.outcome === 'done' ? void lookAtSource(services, id) : settle(services, id, end, 'stopped')),
  })
  return presentSource(services, id)
}

/** `stopped`: what a source becomes that was stopped on the way. */
function settle(services: Context, id: string, end: TaskEnd, stopped: 'ready' | 'stopped'): void {
  // Removed while its job was ending.
  if (findSource(services.store, id) === null) return
  if (end.outcome === 'failed') changeSource(services, id, { state: 'failed', error: end.error })
  else changeSource(services, id, { state: end.outcome === 'done' ? 'ready' : stopped, error: null })
}

export const stopSource = ({ tasks }: Pick<Services, 'tasks'>, id: string): Promise<void> => tasks.stop(keyOf(id))

/** At a core's start: downloads wait to be resumed, looks that were cut off are made again. */
export function settleSources(services: Context): void {
  for (const { id, state } of listSources(services.store)) {
    if (state === 'fetching') changeSource(services, id, { state: 'stopped' })
    if (state === 'looking') lookAtSource(services, id)
  }
}
