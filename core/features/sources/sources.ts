/** Calls on sources. */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { sampleSchema } from '#core/data/sample.ts'
import { AppError, fromErrorData } from '#core/shared/errors.ts'
import { sourceNameOf, sourceSpecSchema, type LibrarySource, type SourceChange } from '#core/shared/sources.ts'
import { listBuilds } from '#core/store/builds.ts'
import { deleteSource, listSources } from '#core/store/sources.ts'
import { api } from '../api.ts'
import { jobPaths, type Services } from '../services.ts'
import { folderBytes } from '../system/system.ts'
import { changeHub, describeHub } from './hub.ts'
import { changeSource, createSource, downloadFolder, fetchSource, freeName, lookAtSource, presentSource, stopSource } from './life.ts'
import { listFolder, openPath } from './paths.ts'
import { beginUpload, pieceBytes, removeUpload, uploadFolder, writePiece } from './uploads.ts'

export const sourcesRouter = api.sources.router({
  list: api.sources.list.handler(({ context }) => listSources(context.store).map(({ id }) => presentSource(context, id))),

  watch: api.sources.watch.handler(({ context, signal }) => context.sourceNews.watch(signal)),

  add: api.sources.add.handler(async ({ input: { name, licence, paths: given }, context }) => {
    const paths = await Promise.all(given.map((path) => openPath(path, context.host.libraryPath)))
    return createSource(context, sourceSpecSchema.parse({ name: freeName(context, name ?? sourceNameOf(paths[0]!)), licence, paths }), { kind: 'files' })
  }),

  addSample: api.sources.addSample.handler(({ context }) => addSample(context)),

  download: api.sources.download.handler(({ input: { name, licence, request }, context }) => {
    const id = context.host.newId()
    const wanted = name ?? sourceNameOf(request.dataset ?? new URL(request.urls[0]!).pathname)
    return createSource(context, sourceSpecSchema.parse({ name: freeName(context, wanted), licence, paths: [downloadFolder(context.host, id)] }), { kind: 'download', request }, id)
  }),

  update: api.sources.update.handler(({ input, context }) => updateSource(context, input.id, input.change)),

  look: api.sources.look.handler(({ input, context }) => lookAtSource(context, input.id)),

  resume: api.sources.resume.handler(({ input, context }) => fetchSource(context, input.id)),

  stop: api.sources.stop.handler(async ({ input, context }) => {
    await stopSource(context, input.id)
    return presentSource(context, input.id)
  }),

  remove: api.sources.remove.handler(async ({ input, context }) => ({ freedBytes: await removeSource(context, input.id) })),

  browse: api.sources.browse.handler(({ input, context }) => listFolder(input.path, context.host.libraryPath)),

  beginUpload: api.sources.beginUpload.handler(({ input, context }) => ({ uploadId: beginUpload(context.host, input.sizeBytes), pieceBytes })),

  upload: api.sources.upload.handler(async ({ input, context }) => {
    writePiece(context.host, input, new Uint8Array(await input.data.arrayBuffer()))
    return {}
  }),

  endUpload: api.sources.endUpload.handler(({ input: { uploadId, name, licence }, context }) => {
    const spec = sourceSpecSchema.parse({ name: freeName(context, name ?? 'upload'), licence, paths: [uploadFolder(context.host, uploadId)] })
    return createSource(context, spec, { kind: 'upload', uploadId })
  }),

  cancelUpload: api.sources.cancelUpload.handler(({ input, context }) => {
    const isTaken = listSources(context.store).some(({ origin }) => origin.kind === 'upload' && origin.uploadId === input.uploadId)
    if (!isTaken) removeUpload(context.host, input.uploadId)
    return {}
  }),

  hub: api.sources.hub.handler(({ context }) => describeHub(context.store)),

  setHub: api.sources.setHub.handler(({ input, context }) => {
    changeHub(context.store, input)
    return describeHub(context.store)
  }),
})

/** What changes how files are read is looked at anew; bad rows were counted already. */
async function updateSource(services: Services, id: string, change: SourceChange): Promise<LibrarySource> {
  const { spec } = presentSource(services, id)
  if (change.name !== undefined && freeName(services, change.name, id) !== change.name) {
    throw new AppError('sources.nameTaken', `There is another source named ${change.name}`, { params: { name: change.name }, hint: 'Choose another name: it is the domain in a mix.' })
  }
  const next = sourceSpecSchema.parse({ ...spec, ...change })
  const changesRows = JSON.stringify([next.format, next.mapping]) !== JSON.stringify([spec.format, spec.mapping])
  if (changesRows) await stopSource(services, id)
  const source = changeSource(services, id, { spec: next })
  return changesRows ? lookAtSource(services, id) : source
}

async function removeSource(services: Services, id: string): Promise<number> {
  const { host, store, sourceNews } = services
  const { origin, spec } = presentSource(services, id)
  const users = listBuilds(store).filter(({ status, draft }) => status !== 'done' && draft.sources.includes(id))
  if (users.length > 0) {
    const mix = users.map(({ draft }) => draft.name).join(', ')
    throw new AppError('sources.inUse', `Source ${spec.name} is in a mix that is not built yet: ${mix}`, { params: { name: spec.name, mix }, hint: 'Take it out of that mix first, or delete the draft.' })
  }
  await stopSource(services, id)
  const own = origin.kind === 'upload' ? uploadFolder(host, origin.uploadId) : origin.kind === 'download' ? downloadFolder(host, id) : null
  const freedBytes = own === null ? 0 : await folderBytes(own)
  deleteSource(store, id)
  sourceNews.publish({ type: 'removed', id })
  if (own !== null) rmSync(own, { recursive: true, force: true })
  return freedBytes
}

/** One source for each domain of the sample that is none yet. */
async function addSample(services: Services): Promise<LibrarySource[]> {
  const { host, store, tasks } = services
  const folder = join(host.resourcesPath, 'sample/data')
  await new Promise<void>((resolve, reject) => {
    tasks.start('sample', { kind: 'fetchSample', paths: jobPaths(host) }, {
      phase: () => undefined,
      message: () => undefined,
      end: (end) => (end.outcome === 'failed' ? reject(fromErrorData(end.error)) : resolve()),
    })
  })
  const { domains } = sampleSchema.parse(JSON.parse(readFileSync(join(folder, 'sample.json'), 'utf8')))
  const known = new Set(listSources(store).flatMap(({ origin, spec }) => (origin.kind === 'sample' ? spec.paths : [])))
  const added = domains.map(({ name, licence }) => ({ name, licence: licence.slice(0, 200), path: join(folder, `${name}.jsonl`) })).filter(({ path }) => !known.has(path))
  return added.map(({ name, licence, path }) => createSource(services, sourceSpecSchema.parse({ name: freeName(services, name), licence, paths: [path] }), { kind: 'sample' }))
}
