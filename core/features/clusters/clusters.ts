/** Calls on clusters: is there one? What trains there is a run, and its calls are those of runs. */
import { rayClient } from '#core/ray/client.ts'
import { api } from '../api.ts'

export const clustersRouter = api.clusters.router({
  check: api.clusters.check.handler(({ input }) => rayClient(input.address).check()),
})
