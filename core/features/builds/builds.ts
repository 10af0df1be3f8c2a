/** Calls on builds. */
import { isEditable, type Build, type FilterPreview, type MixDraft } from '#core/shared/builds.ts'
import { AppError } from '#core/shared/errors.ts'
import { deleteBuild, listBuilds, putBuild } from '#core/store/builds.ts'
import { api } from '../api.ts'
import { startShortJob } from '../devices/short-job.ts'
import { jobPaths, type Services } from '../services.ts'
import { changeBuild, presentBuild, specOf, startBuild, stopBuild, textBytesOf } from './life.ts'

/** A look at the first documents; a disk that is slow or a file that is huge may take it. */
const previewLimitMs = 120_000

export const buildsRouter = api.builds.router({
  list: api.builds.list.handler(({ context }) => listBuilds(context.store).map(({ id }) => presentBuild(context, id))),

  watch: api.builds.watch.handler(({ context, signal }) => context.buildNews.watch(signal)),

  create: api.builds.create.handler(({ input, context }) => createBuild(context, input.draft)),

  update: api.builds.update.handler(({ input, context }) => {
    requireEditable(presentBuild(context, input.id))
    return changeBuild(context, input.id, { draft: input.draft, changedAt: context.host.now() })
  }),

  remove: api.builds.remove.handler(({ input, context }) => {
    const build = presentBuild(context, input.id)
    if (build.status !== 'done') requireEditable(build)
    deleteBuild(context.store, input.id)
    context.buildNews.publish({ type: 'removed', id: input.id })
    return {}
  }),

  start: api.builds.start.handler(({ input, context }) => startBuild(context, input.id)),

  stop: api.builds.stop.handler(({ input, context }) => stopBuild(context, input.id)),

  preview: api.builds.preview.handler(({ input, context, signal }) => preview(context, input.draft, signal)),
})

function createBuild(services: Services, draft: MixDraft): Build {
  const { host, store } = services
  const [id, now] = [host.newId(), host.now()]
  const build: Build = { id, draft, status: 'draft', phase: null, mixId: null, error: null, createdAt: now, changedAt: now }
  putBuild(store, build)
  services.buildNews.publish({ type: 'build', build })
  return build
}

function requireEditable(build: Build): void {
  if (isEditable(build)) return
  throw new AppError('builds.underWay', `The mix ${build.draft.name} is ${build.status}`, { params: { id: build.id, status: build.status }, hint: 'Stop it first; what is built stays as it is.' })
}

async function preview(services: Services, draft: MixDraft, signal: AbortSignal | undefined): Promise<FilterPreview> {
  let result: FilterPreview | null = null
  const spec = await specOf(services, draft)
  const job = startShortJob(services, { kind: 'previewFilters', paths: jobPaths(services.host), spec, textBytes: textBytesOf(services, draft) }, previewLimitMs, (message) => {
    if (message.type === 'filterPreview') result = message.preview
  })
  const left = (): void => job.interrupt(new AppError('builds.previewLeft', 'Nobody waits for the preview any more'))
  if (signal?.aborted === true) left()
  signal?.addEventListener('abort', left, { once: true })
  await job.done.catch((error: unknown) => {
    throw error instanceof AppError && error.code === 'devices.crashed' ? new AppError('jobs.died', error.message, { params: error.params, hint: 'The machine may have run out of memory: take a smaller file, or close something.' }) : error
  })
  signal?.removeEventListener('abort', left)
  if (result === null) throw new Error('the preview ended without a result')
  return result
}
