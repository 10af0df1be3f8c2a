/**
 * The core of one library, whatever hosts it: opens the store, makes it agree with the disk, and wires every part. This is
 * the one place that knows them all. Clients reach it over a MessagePort, a WebSocket, or in the same process.
 */
import { mkdirSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import type { ContractRouterClient } from '@orpc/contract'
import { createRouterClient } from '@orpc/server'
import { RPCHandler as PortHandler } from '@orpc/server/message-port'
import { BodyLimitPlugin, RPCHandler as HttpHandler } from '@orpc/server/node'
import { RPCHandler as SocketHandler } from '@orpc/server/ws'
import { analysesRouter } from './features/analyses/analyses.ts'
import { api, withOwnErrors } from './features/api.ts'
import { apiServerRouter } from './features/api-server/api-server.ts'
import { buildsRouter } from './features/builds/builds.ts'
import { settleBuilds } from './features/builds/life.ts'
import { chatsRouter } from './features/chats/chats.ts'
import { createInferencePool } from './features/chats/inference.ts'
import { checkpointsRouter } from './features/checkpoints/checkpoints.ts'
import { reconcileCheckpoints, removeAllLeftovers } from './features/checkpoints/reconcile.ts'
import { clustersRouter } from './features/clusters/clusters.ts'
import { conversationsRouter } from './features/conversations/conversations.ts'
import { devicesRouter } from './features/devices/devices.ts'
import { createDevices } from './features/devices/registry.ts'
import { createHub } from './features/events.ts'
import { lockLibrary } from './features/jobs/lock.ts'
import { createOrphans } from './features/jobs/orphans.ts'
import { createSupervisor } from './features/jobs/supervisor.ts'
import { createTasks } from './features/jobs/tasks.ts'
import { estimatesRouter } from './features/estimates/estimates.ts'
import { exchangeRouter } from './features/exchange/exchange.ts'
import { evaluationsRouter } from './features/evaluations/evaluations.ts'
import { experimentsRouter } from './features/experiments/experiments.ts'
import { lineageRouter } from './features/lineage/lineage.ts'
import { mixesRouter } from './features/mixes/mixes.ts'
import { reconcileMixes } from './features/mixes/reconcile.ts'
import { quickstartRouter } from './features/quickstart/quickstart.ts'
import { createRunNews } from './features/runs/news.ts'
import { runsRouter } from './features/runs/runs.ts'
import { publishRun, type Services } from './features/services.ts'
import { settleSources } from './features/sources/life.ts'
import { sourcesRouter } from './features/sources/sources.ts'
import { removeStrayFiles } from './features/sources/uploads.ts'
import { systemRouter } from './features/system/system.ts'
import { tokenizersRouter } from './features/tokenizers/tokenizers.ts'
import { planOnMachine } from './runner/memory-plan.ts'
import { createApiServer } from './serve/api/server.ts'
import type { BuildEvent } from './shared/builds.ts'
import type { Analysis } from './shared/analyses.ts'
import type { contract } from './shared/contract.ts'
import type { Transfer } from './shared/exchange.ts'
import type { Host } from './shared/host.ts'
import type { SourceEvent } from './shared/sources.ts'
import { endOpenAnalyses } from './store/analyses.ts'
import { endOpenMessages } from './store/chats.ts'
import { endOpenEvaluations } from './store/evaluations.ts'
import { openStore } from './store/open.ts'

export type CoreClient = ContractRouterClient<typeof contract>
type Port = Parameters<PortHandler<Services>['upgrade']>[0]
type Socket = Parameters<SocketHandler<Services>['upgrade']>[0]

export type Core = {
  /** Calls in the same process, for the command line and tests; what they throw is an AppError, or a bug. */
  readonly client: CoreClient
  /** Serves a MessagePort (of Node, the page, or Electron), until it closes. Start the port after this. */
  connect(port: Port): void
  /** Serves a WebSocket that may use everything: whoever accepts it has checked who is there. */
  connectSocket(socket: Socket): void
  /** Answers a call made by HTTP under `prefix`; false when the path names none. The same goes for it. */
  answerHttp(request: IncomingMessage, response: ServerResponse, prefix: `/${string}`): Promise<boolean>
  /** Answers a request under /v1 of the OpenAI-compatible API, for its keys and those that `isKey` knows. */
  answerApi(request: IncomingMessage, response: ServerResponse, isKey: (secret: string) => boolean): Promise<void>
  /** Stops what trains (it saves), ends every stream and releases the library. */
  close(): Promise<void>
}

const largestBodyBytes = 4 << 20

const router = api.router({
  analyses: analysesRouter,
  apiServer: apiServerRouter,
  builds: buildsRouter,
  chats: chatsRouter,
  checkpoints: checkpointsRouter,
  clusters: clustersRouter,
  conversations: conversationsRouter,
  devices: devicesRouter,
  estimates: estimatesRouter,
  exchange: exchangeRouter,
  evaluations: evaluationsRouter,
  experiments: experimentsRouter,
  lineage: lineageRouter,
  mixes: mixesRouter,
  quickstart: quickstartRouter,
  runs: runsRouter,
  sources: sourcesRouter,
  system: systemRouter,
  tokenizers: tokenizersRouter,
})

/** Starts the core on the host's library, which is made when missing. Throws library.busy, store.future, store.corrupt, store.unopenable. */
export async function startCore(host: Host): Promise<Core> {
  mkdirSync(join(host.libraryPath, 'checkpoints'), { recursive: true })
  const unlock = lockLibrary(host.libraryPath)
  try {
    const services = await openServices(host)
    const { apiServer } = services
    const portHandler = new PortHandler(router)
    const socketHandler = new SocketHandler(router)
    const httpHandler = new HttpHandler(router, { plugins: [new BodyLimitPlugin({ maxBodySize: largestBodyBytes })] })
    let closing: Promise<void> | null = null
    return {
      client: createRouterClient(router, { context: services, interceptors: [withOwnErrors] }),
      connect: (port) => portHandler.upgrade(port, { context: services }),
      connectSocket: (socket) => void socketHandler.upgrade(socket, { context: services }),
      answerHttp: async (request, response, prefix) => (await httpHandler.handle(request, response, { prefix, context: services })).matched,
      answerApi: (request, response, isKey) => apiServer.answer(request, response, isKey),
      close: () => (closing ??= closeServices(services).finally(unlock)),
    }
  } catch (error) {
    unlock()
    throw error
  }
}

async function openServices(host: Host): Promise<Services & { apiServer: ReturnType<typeof createApiServer> }> {
  const store = openStore(join(host.libraryPath, 'library.sqlite'))
  const inference = createInferencePool({ host, store })
  const base = {
    host,
    store,
    events: createRunNews(),
    sourceNews: createHub<SourceEvent>(latestOfEach),
    buildNews: createHub<BuildEvent>(latestOfEach),
    transfers: new Map<string, Transfer>(),
    transferNews: createHub<Transfer>(latestOfEach),
    analysisNews: createHub<Analysis>(latestOfEach),
    tasks: createTasks({ host, store }),
    devices: createDevices({ host, store }),
    inference,
    apiServer: createApiServer({ host, store, inference }),
    planMemory: planOnMachine,
  }
  const orphans = createOrphans({ host, store }, (runId) => {
    afterOrphan(services, runId).catch((error: unknown) => host.log('error', `after a lost runner: ${String(error)}`))
  })
  const services = { ...base, orphans, supervisor: createSupervisor({ ...base, orphans }) }
  endOpenMessages(store)
  endOpenAnalyses(store, host.now())
  endOpenEvaluations(store)
  await reconcileCheckpoints(services)
  await reconcileMixes(services)
  if (!orphans.any()) await removeAllLeftovers(services)
  removeStrayFiles(services)
  settleBuilds(services)
  settleSources(services)
  services.supervisor.pump()
  return services
}

/** A watcher that reads slowly gets only how each thing stands now. */
function latestOfEach<E extends SourceEvent | BuildEvent | Analysis | Transfer>(queue: E[], event: E): void {
  const idOf = (one: E): string => ('id' in one ? one.id : 'source' in one ? one.source.id : one.build.id)
  const waiting = queue.findIndex((one) => idOf(one) === idOf(event))
  if (waiting >= 0) queue.splice(waiting, 1)
  queue.push(event)
}

/** A runner that had lost its core has exited: what it left is taken in, and waiting runs may begin. */
async function afterOrphan(services: Services, runId: string): Promise<void> {
  const changed = await reconcileCheckpoints(services)
  if (!services.orphans.any()) await removeAllLeftovers(services)
  for (const id of changed.add(runId)) publishRun(services, id)
  services.supervisor.pump()
}

async function closeServices({ orphans, supervisor, tasks, inference, apiServer, devices, events, sourceNews, buildNews, analysisNews, transferNews, store }: Services): Promise<void> {
  orphans.close()
  devices.close()
  await apiServer.close()
  await Promise.all([supervisor.close(), inference.close(), tasks.close()])
  for (const hub of [events, sourceNews, buildNews, analysisNews, transferNews]) hub.close()
  // Streams that just ended write their last state.
  await new Promise((resolve) => setTimeout(resolve, 20))
  store.close()
}
