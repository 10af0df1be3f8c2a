/** Calls on mixes. */
import { listMixes } from '#core/store/mixes.ts'
import { api } from '../api.ts'

export const mixesRouter = api.mixes.router({
  list: api.mixes.list.handler(({ context }) => listMixes(context.store)),
})
