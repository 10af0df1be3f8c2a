/** Calls on mixes: what is in one, what a run of it sees first, and its end. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { readMixManifest } from '#core/data/mix-manifest.ts'
import { previewMix } from '#core/data/preview.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Mix, MixDetails } from '#core/shared/mixes.ts'
import { deleteMix, findMix, listMixes } from '#core/store/mixes.ts'
import { listRuns } from '#core/store/runs.ts'
import { api } from '../api.ts'
import { removeFolder } from '../checkpoints/files.ts'
import type { Services } from '../services.ts'

export const mixesRouter = api.mixes.router({
  list: api.mixes.list.handler(({ context }) => listMixes(context.store)),

  get: api.mixes.get.handler(({ input, context }): MixDetails => {
    const mix = requireMix(context, input.id)
    const { outcomes = [], comparedTasks = [] } = readMixManifest(mixFolder(context, input.id))
    return { mix, outcomes, comparedTasks, runs: runsOn(context, input.id) }
  }),

  preview: api.mixes.preview.handler(({ input: { id, ...options }, context }) => {
    requireMix(context, id)
    const folder = mixFolder(context, id)
    return previewMix(folder, readMixManifest(folder), loadTokenizer(join(folder, 'tokenizer.json')), options)
  }),

  remove: api.mixes.remove.handler(async ({ input: { id }, context }) => {
    const { name, sizeBytes } = requireMix(context, id)
    const runs = runsOn(context, id)
    if (runs.length > 0) {
      const names = runs.map((run) => run.name).join(', ')
      throw new AppError('mixes.inUse', `Mix ${name} is what these runs were made on: ${names}`, { params: { name, runs: names, count: runs.length }, hint: 'Delete those runs first; without the mix they cannot be resumed or checked.' })
    }
    deleteMix(context.store, id)
    if (existsSync(mixFolder(context, id))) await removeFolder(join(context.host.libraryPath, 'mixes'), id)
    return { freedBytes: sizeBytes }
  }),
})

const mixFolder = ({ host }: Pick<Services, 'host'>, id: string): string => join(host.libraryPath, 'mixes', id)

function requireMix({ store }: Services, id: string): Mix {
  const mix = findMix(store, id)
  if (mix === null) throw new AppError('mixes.notFound', `There is no mix ${id}`, { params: { id }, hint: 'It may have been removed.' })
  return mix
}

/** Runs that name the mix or were given it. */
function runsOn({ store }: Services, id: string): MixDetails['runs'] {
  const runs = listRuns(store).filter((run) => run.mixId === id || run.config.mix === id)
  return runs.map((run) => ({ id: run.id, name: run.name }))
}
