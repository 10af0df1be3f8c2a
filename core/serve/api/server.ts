/**
 * The switch of the API: a listener of its own on loopback, the same under Electron as under `moe serve`, off until someone asks. What was
 * chosen is remembered. It answers to loopback's names only, so that no page can reach it through a name of its own (DNS rebinding).
 */
import { createServer, type Server } from 'node:http'
import { z } from 'zod'
import type { ApiServer } from '#core/features/api-server/api-server.ts'
import type { Services } from '#core/features/services.ts'
import type { ApiServerState } from '#core/shared/api-server.ts'
import { AppError } from '#core/shared/errors.ts'
import { readSetting, writeSetting } from '#core/store/settings.ts'
import { ownHosts } from '../access.ts'
import { ApiError, errorBody } from './errors.ts'
import { createApi, type Api } from './api.ts'
import { createKeys } from './keys.ts'

const settingsKey = 'api.server'
const loopback = '127.0.0.1'
const storedSchema = z.object({ on: z.boolean(), port: z.int().min(1024).max(65535) })

/** The API of a core; it listens at once where it was left on. */
export function createApiServer(services: Pick<Services, 'host' | 'store' | 'inference'>): ApiServer & Pick<Api, 'answer'> {
  const { host, store } = services
  const keys = createKeys(services)
  const api = createApi(services, keys)
  const chosen = storedSchema.safeParse(readSetting(store, settingsKey)).data ?? { on: false, port: 4318 }
  let listening: { server: Server; port: number } | null = null

  async function stop(): Promise<void> {
    if (listening === null) return
    const { server } = listening
    listening = null
    const closed = new Promise((resolve) => server.close(resolve))
    server.closeAllConnections()
    await closed
  }

  async function start(port: number): Promise<void> {
    if (listening?.port === port) return
    const hosts = ownHosts(loopback, port)
    const server = createServer((request, response) => {
      if (hosts.has((request.headers.host ?? '').toLowerCase())) return void api.answer(request, response)
      response.writeHead(421, { 'Content-Type': 'application/json' }).end(JSON.stringify(errorBody(new ApiError(421, 'This server does not answer to that name.'))))
    })
    await listen(server, port)
    await stop()
    listening = { server, port }
  }

  const state = (): ApiServerState => ({
    on: listening !== null, port: chosen.port, url: listening === null ? null : `http://${loopback}:${listening.port}/v1`, keys: keys.list(), counts: api.counts(),
  })

  let work = chosen.on ? start(chosen.port).catch((error: unknown) => host.log('warning', `the API is not on: ${String(error)}`)) : Promise.resolve()
  return {
    answer: api.answer,
    state: async () => {
      await work
      return state()
    },
    async update({ on, port = chosen.port }) {
      const before = work
      const mine = (async () => {
        await before
        await (on ? start(port) : stop())
        Object.assign(chosen, { on, port })
        writeSetting(store, settingsKey, chosen)
      })()
      work = mine.catch(() => undefined)
      await mine
      return state()
    },
    createKey: (name) => keys.create(name),
    removeKey: (id) => keys.remove(id),
    async close() {
      await work
      await stop()
    },
  }
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === 'EADDRINUSE'
      reject(new AppError(isTaken ? 'serve.portInUse' : 'serve.addressRefused', isTaken ? `Port ${port} is in use` : `Cannot listen on ${loopback}, port ${port}: ${error.message}`, { params: { port, host: loopback }, hint: 'Choose another port.', cause: error }))
    })
    server.listen(port, loopback, resolve)
  })
}
