/** Calls on the switch and the keys of the API. What listens and answers is core/serve/api's; it is handed in by core/main.ts. */
import type { ApiKey, ApiServerState } from '#core/shared/api-server.ts'
import { api } from '../api.ts'

export type ApiServer = {
  state(): Promise<ApiServerState>
  /** Throws serve.portInUse and serve.addressRefused; what was before stays then. */
  update(change: { on: boolean; port?: number | undefined }): Promise<ApiServerState>
  /** `secret` is not to be had again. */
  createKey(name: string): { key: ApiKey; secret: string }
  removeKey(id: string): void
  close(): Promise<void>
}

export const apiServerRouter = api.apiServer.router({
  state: api.apiServer.state.handler(({ context }) => context.apiServer.state()),
  update: api.apiServer.update.handler(({ input, context }) => context.apiServer.update(input)),
  createKey: api.apiServer.createKey.handler(({ input, context }) => context.apiServer.createKey(input.name)),
  removeKey: api.apiServer.removeKey.handler(({ input, context }) => {
    context.apiServer.removeKey(input.id)
    return context.apiServer.state()
  }),
})
