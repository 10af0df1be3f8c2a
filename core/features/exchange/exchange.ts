/** Calls on imports and exports. Paths are held to what a page may name, as those of sources are. */
import { dirname } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import { repositoryPattern } from '#core/shared/exchange.ts'
import { api } from '../api.ts'
import { openPath } from '../sources/paths.ts'
import { presentTransfer, startExport, startImport, stopTransfer } from './transfers.ts'

export const exchangeRouter = api.exchange.router({
  list: api.exchange.list.handler(({ context }) => [...context.transfers.keys()].map((id) => presentTransfer(context, id)).sort((a, b) => b.createdAt - a.createdAt)),

  watch: api.exchange.watch.handler(({ context, signal }) => context.transferNews.watch(signal)),

  import: api.exchange.import.handler(async ({ input, context }) => {
    if (!input.isRepository) return startImport(context, { ...input, from: await openPath(input.from, context.host.libraryPath) })
    if (!repositoryPattern.test(input.from)) throw new AppError('exchange.notARepository', `${input.from} is not owner/name`, { params: { found: input.from }, hint: 'Give the model as its page names it, or a path of this machine.' })
    return startImport(context, input)
  }),

  export: api.exchange.export.handler(async ({ input, context }) => {
    const out = await openPath(input.out, context.host.libraryPath)
    // A link of a folder on the way must not lead to where its name could not.
    await openPath(dirname(out), context.host.libraryPath)
    return startExport(context, { ...input, out })
  }),

  stop: api.exchange.stop.handler(async ({ input, context }) => {
    presentTransfer(context, input.id)
    await stopTransfer(context, input.id)
    return presentTransfer(context, input.id)
  }),
})
