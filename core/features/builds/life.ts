/**
 * The life of a build: one at a time, the others wait in the order they were started. What was stopped or cut off keeps its work folder,
 * so that starting it again goes on from the last whole shard.
 */
import { AppError } from '#core/shared/errors.ts'
import { isEditable, specOfDraft, type Build, type MixDraft } from '#core/shared/builds.ts'
import { hasTooManyBadRows, type LibrarySource } from '#core/shared/sources.ts'
import type { MixSpec } from '#core/shared/mixes.ts'
import { buildsInStatus, findBuild, putBuild } from '#core/store/builds.ts'
import { recordMix } from '#core/store/mixes.ts'
import { findSource } from '#core/store/sources.ts'
import type { TaskEnd } from '../jobs/tasks.ts'
import { jobPaths, type Services } from '../services.ts'
import { openPath } from '../sources/paths.ts'
import { tokenizerPath } from '../tokenizers/files.ts'

const keyOf = (id: string): string => `build ${id}`

/** The build with the phase that it is in. Throws builds.notFound. */
export function presentBuild({ store, tasks }: Pick<Services, 'store' | 'tasks'>, id: string): Build {
  const build = findBuild(store, id)
  if (build === null) throw new AppError('builds.notFound', `There is no mix in the making ${id}`, { params: { id }, hint: 'It may have been removed. Go back to the list.' })
  return { ...build, phase: tasks.phase(keyOf(id)) }
}

/** Stores what changed of a build and tells every watcher how it stands now. */
export function changeBuild(services: Services, id: string, change: Partial<Build>): Build {
  const build = { ...presentBuild(services, id), ...change }
  putBuild(services.store, build)
  services.buildNews.publish({ type: 'build', build })
  return build
}

function sourceOf({ store }: Services, id: string): LibrarySource {
  const source = findSource(store, id)
  if (source === null) throw new AppError('sources.notFound', `There is no source ${id}`, { params: { id }, hint: 'It was removed: take it out of the mix.' })
  return source
}

/** The description that a runner works by. Throws builds.noSources, sources.notFound, tokenizers.notFound, source.closedPath. */
export async function specOf(services: Services, draft: MixDraft): Promise<MixSpec> {
  if (draft.sources.length === 0) throw new AppError('builds.noSources', 'The mix has no sources', { hint: 'Add at least one source to it.' })
  const sources = draft.sources.map((id) => sourceOf(services, id))
  const { contamination } = draft.filters
  const texts = await Promise.all((contamination?.texts ?? []).map((path) => openPath(path, services.host.libraryPath)))
  const filters = { ...draft.filters, contamination: contamination && { ...contamination, texts } }
  return specOfDraft({ ...draft, filters }, sources, draft.tokenizer === null ? null : tokenizerPath(services.host, draft.tokenizer))
}

function requireReady(services: Services, draft: MixDraft): void {
  for (const source of draft.sources.map((id) => sourceOf(services, id))) {
    const { name } = source.spec
    if (source.state === 'fetching' || source.state === 'stopped') throw new AppError('builds.sourceNotReady', `Source ${name} is not downloaded yet`, { params: { name }, hint: 'Wait for its download, or resume it.' })
    if (!hasTooManyBadRows(source)) continue
    const [first] = source.report!.badRows
    throw new AppError('builds.badRows', `Source ${name} has ${source.report!.badRowCount} rows that cannot be used, ${source.spec.skipBadRows} may be skipped: ${first?.message ?? ''}`, {
      params: { name, found: source.report!.badRowCount, expected: source.spec.skipBadRows, row: first?.message ?? '' },
      hint: 'Correct them, choose another field, or allow that many to be skipped.',
    })
  }
}

/** Queues a build. Throws what makes it impossible. */
export async function startBuild(services: Services, id: string): Promise<Build> {
  const { status, draft } = presentBuild(services, id)
  if (!isEditable({ status })) throw new AppError('builds.notStartable', `The mix ${draft.name} is ${status}`, { params: { id, status }, hint: 'Copy its settings into a new mix to build another one.' })
  requireReady(services, draft)
  await specOf(services, draft)
  changeBuild(services, id, { status: 'queued', error: null, changedAt: services.host.now() })
  pumpBuilds(services)
  return presentBuild(services, id)
}

/** Text of all sources together; null when one was not read through. */
export function textBytesOf(services: Services, draft: MixDraft): number | null {
  const sizes = draft.sources.map((id) => sourceOf(services, id).report?.textBytes ?? null)
  return sizes.includes(null) ? null : sizes.reduce<number>((sum, bytes) => sum + bytes!, 0)
}

/** Starts the next build if none is under way. */
export function pumpBuilds(services: Services): void {
  const { store, host, tasks } = services
  if (buildsInStatus(store, 'running').length > 0) return
  const next = buildsInStatus(store, 'queued')[0]
  if (next === undefined) return
  const { id, draft } = next
  changeBuild(services, id, { status: 'running', changedAt: host.now() })
  specOf(services, draft).then(
    (spec) =>
      tasks.start(keyOf(id), { kind: 'buildMix', paths: jobPaths(host), spec, textBytes: textBytesOf(services, draft) }, {
        phase: () => void changeBuild(services, id, {}),
        message(message) {
          if (message.type !== 'mix') return
          recordMix(store, message.mix)
          changeBuild(services, id, { mixId: message.mix.id })
        },
        end: (end) => settle(services, id, end),
      }),
    (error: unknown) => settle(services, id, { outcome: 'failed', error: error instanceof AppError ? error : { code: 'internal', message: String(error), params: {}, hint: '' } }),
  )
}

function settle(services: Services, id: string, end: TaskEnd): void {
  const changedAt = services.host.now()
  if (end.outcome === 'failed') {
    const { code, message, params, hint } = end.error
    changeBuild(services, id, { status: 'failed', error: { code, message, params, hint }, changedAt })
  } else changeBuild(services, id, { status: end.outcome, changedAt })
  pumpBuilds(services)
}

export async function stopBuild(services: Services, id: string): Promise<Build> {
  const { status } = presentBuild(services, id)
  if (status === 'queued') return changeBuild(services, id, { status: 'stopped', changedAt: services.host.now() })
  await services.tasks.stop(keyOf(id))
  return presentBuild(services, id)
}

/** At a core's start: nothing is under way any more. */
export function settleBuilds(services: Services): void {
  for (const { id } of buildsInStatus(services.store, 'running', 'queued')) changeBuild(services, id, { status: 'interrupted' })
}
