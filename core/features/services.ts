/**
 * What every handler works with: the core of one library, as one value. Made by core/main.ts, passed as the context of
 * each call; a handler takes from it what it needs and keeps no state of its own.
 */
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import type { Analysis } from '#core/shared/analyses.ts'
import type { BuildEvent } from '#core/shared/builds.ts'
import type { Host } from '#core/shared/host.ts'
import type { JobPaths } from '#core/shared/jobs.ts'
import type { MemoryPlan } from '#core/shared/devices.ts'
import type { Transfer } from '#core/shared/exchange.ts'
import type { Run, RunConfig, RunEvent } from '#core/shared/runs.ts'
import type { SourceEvent } from '#core/shared/sources.ts'
import { findRun } from '#core/store/runs.ts'
import type { WritableStore } from '#core/store/open.ts'
import type { ApiServer } from './api-server/api-server.ts'
import type { InferencePool } from './chats/inference.ts'
import type { Devices } from './devices/registry.ts'
import type { Hub } from './events.ts'
import type { Orphans } from './jobs/orphans.ts'
import type { Supervisor } from './jobs/supervisor.ts'
import type { Tasks } from './jobs/tasks.ts'

export type Services = {
  host: Host
  store: WritableStore
  /** Events of all runs, each with the run it is of. */
  events: Hub<RunNews>
  sourceNews: Hub<SourceEvent>
  buildNews: Hub<BuildEvent>
  /** Imports and exports since the core started, by id. */
  transfers: Map<string, Transfer>
  transferNews: Hub<Transfer>
  analysisNews: Hub<Analysis>
  supervisor: Supervisor
  /** Jobs of sources, builds and analyses. */
  tasks: Tasks
  orphans: Orphans
  inference: InferencePool
  apiServer: ApiServer
  devices: Devices
  /** The memory of a recipe, without taking any. */
  planMemory(config: RunConfig): Promise<MemoryPlan>
}

export type RunNews = { runId: string; event: RunEvent }

/** Where runners find things. */
export const jobPaths = (host: Host): JobPaths => ({ library: host.libraryPath, resources: host.resourcesPath })

export const checkpointsFolder = (host: Host): string => join(host.libraryPath, 'checkpoints')

/** The run as clients see it: the stored one and what only exists while it is under way. Throws runs.notFound. */
export function presentRun(services: Pick<Services, 'store' | 'supervisor'>, id: string): Run {
  const run = findRun(services.store, id)
  if (run === null) throw runNotFound(id)
  return services.supervisor.withLiveFields(run)
}

/** Tells every watcher how the run stands now. */
export function publishRun(services: Pick<Services, 'store' | 'supervisor' | 'events'>, id: string): void {
  services.events.publish({ runId: id, event: { type: 'run', run: presentRun(services, id) } })
}

export const runNotFound = (id: string): AppError =>
  new AppError('runs.notFound', `There is no run ${id}`, { params: { id }, hint: 'It may have been removed. Go back to the list of runs.' })
