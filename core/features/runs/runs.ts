/** Calls on runs: what the store knows of them, and what the supervisor does with them. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import { moeLayers } from '#core/shared/models.ts'
import type { ExpertLoad, Run, RunEvent, Series } from '#core/shared/runs.ts'
import { recipeFor } from '#core/shared/stages.ts'
import { listCheckpoints } from '#core/store/checkpoints.ts'
import { readExpertCounts, readSeries, seriesKeys } from '#core/store/metrics.ts'
import { inTransaction } from '#core/store/open.ts'
import { dismissAlert, listAlerts, listInterventions, listSamples } from '#core/store/run-records.ts'
import { deleteRun, dependantsOf, findRun, listRuns, readLog, runNumber, updateRun } from '#core/store/runs.ts'
import { api } from '../api.ts'
import { removeFolder } from '../checkpoints/files.ts'
import { removeCheckpoint } from '../checkpoints/checkpoints.ts'
import { presentRun, publishRun, runNotFound, type RunNews, type Services } from '../services.ts'
import { requireNoDependants, rollBackRun } from './roll-back.ts'
import { startingPoint } from './starting-point.ts'

export const runsRouter = api.runs.router({
  list: api.runs.list.handler(({ context }) => listRuns(context.store).map((run) => context.supervisor.withLiveFields(run))),

  get: api.runs.get.handler(({ input, context }) => presentRun(context, input.id)),

  create: api.runs.create.handler(({ input, context }) => context.supervisor.create(input.config)),

  stop: api.runs.stop.handler(({ input, context }) => context.supervisor.stop(input.id, input.save)),

  resume: api.runs.resume.handler(({ input, context }) => context.supervisor.resume(input.id, input.device)),

  rename: api.runs.rename.handler(({ input, context }) => {
    presentRun(context, input.id)
    updateRun(context.store, input.id, { name: input.name })
    publishRun(context, input.id)
    return presentRun(context, input.id)
  }),

  remove: api.runs.remove.handler(async ({ input, context }) => ({ freedBytes: await removeRun(context, input.id, input.checkpoints) })),

  metrics: api.runs.metrics.handler(async ({ input, context }) => {
    const run = requireNumber(context, input.id)
    const series: Series[] = []
    for (const key of input.keys ?? seriesKeys(context.store, run)) {
      series.push(readSeries(context.store, run, key, input))
      // Each series may be long: others get their turn in between.
      await new Promise((resolve) => setImmediate(resolve))
    }
    return series
  }),

  expertLoad: api.runs.expertLoad.handler(({ input, context }) => readExpertLoad(context, input.id, input.maxPoints)),

  log: api.runs.log.handler(({ input, context }) => readLog(context.store, requireNumber(context, input.id))),

  alerts: api.runs.alerts.handler(({ input, context }) => listAlerts(context.store, requireNumber(context, input.id))),

  dismissAlerts: api.runs.dismissAlerts.handler(({ input, context }) => {
    const run = requireNumber(context, input.id)
    inTransaction(context.store, () => input.alertIds.forEach((id) => dismissAlert(context.store, run, id, context.host.now())))
    publishRun(context, input.id)
    return presentRun(context, input.id)
  }),

  interventions: api.runs.interventions.handler(({ input, context }) => listInterventions(context.store, requireNumber(context, input.id))),

  samples: api.runs.samples.handler(({ input, context }) => listSamples(context.store, requireNumber(context, input.id))),

  change: api.runs.change.handler(({ input, context }) => context.supervisor.change(input.id, input.change)),

  rollBack: api.runs.rollBack.handler(({ input, context }) => rollBackRun(context, input)),

  annotate: api.runs.annotate.handler(({ input: { id, note, tags, archived }, context }) => {
    if (archived === true && ['running', 'stopping', 'queued'].includes(presentRun(context, id).status)) throw activeRun(presentRun(context, id))
    requireNumber(context, id)
    updateRun(context.store, id, { note, tags, archivedAt: archived === undefined ? undefined : archived ? context.host.now() : null })
    publishRun(context, id)
    return presentRun(context, id)
  }),

  dependants: api.runs.dependants.handler(({ input, context }) => {
    requireNumber(context, input.id)
    return dependantsOf(context.store, input.id)
  }),

  queue: api.runs.queue.handler(({ context }) => context.supervisor.queue()),

  reorderQueue: api.runs.reorderQueue.handler(({ input, context }) => {
    context.supervisor.reorderQueue(input.ids)
    return context.supervisor.queue()
  }),

  pauseQueue: api.runs.pauseQueue.handler(({ input, context }) => {
    context.supervisor.pauseQueue(input.paused)
    return context.supervisor.queue()
  }),

  recipeFrom: api.runs.recipeFrom.handler(({ input, context }) => recipeFor(input.stage, startingPoint(context, input.checkpointId))),

  watch: api.runs.watch.handler(({ input, context, signal }) => {
    presentRun(context, input.id)
    return watchRun(context, input.id, context.events.watch(signal))
  }),

  watchAll: api.runs.watchAll.handler(({ context, signal }) => watchAll(context.events.watch(signal))),
})

async function* watchRun(services: Services, id: string, news: AsyncGenerator<RunNews>): AsyncGenerator<RunEvent, void> {
  yield { type: 'run', run: presentRun(services, id) }
  const phase = services.supervisor.phase(id)
  if (phase !== null) yield { type: 'phase', phase }
  for await (const { runId, event } of news) {
    if (runId !== id) continue
    yield event
    if (event.type === 'removed') return
  }
}

async function* watchAll(news: AsyncGenerator<RunNews>): AsyncGenerator<RunEvent, void> {
  for await (const { event } of news) {
    if (event.type === 'run' || event.type === 'removed') yield event
  }
}

async function removeRun(services: Services, id: string, withCheckpoints: boolean): Promise<number> {
  const run = presentRun(services, id)
  if (services.supervisor.isActive(id)) throw activeRun(run)
  requireNoDependants(services, id)
  const checkpoints = listCheckpoints(services.store, id)
  if (checkpoints.length > 0 && !withCheckpoints) {
    throw new AppError('runs.hasCheckpoints', `Run ${id} has ${checkpoints.length} checkpoints`, {
      params: { id, count: checkpoints.length },
      hint: 'Remove them together with the run, or keep the run.',
    })
  }
  await services.orphans.waitFor(id)
  for (const checkpoint of checkpoints) await removeCheckpoint(services, checkpoint.id)
  if (existsSync(join(services.host.libraryPath, 'adaptations', id))) await removeFolder(join(services.host.libraryPath, 'adaptations'), id)
  deleteRun(services.store, id)
  services.events.publish({ runId: id, event: { type: 'removed', runId: id } })
  return checkpoints.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
}

const activeRun = ({ id, status }: Run): AppError =>
  new AppError('runs.active', `Run ${id} is ${status}`, { params: { id, status }, hint: 'Stop it first, then remove it.' })

/** Counts as shares of each layer's assignments, float32 [points × layers × experts]. */
function readExpertLoad({ store }: Services, id: string, maxPoints: number): ExpertLoad {
  const run = requireNumber({ store }, id)
  const { model } = findRun(store, id)!.config
  const [layers, experts] = [moeLayers(model).length, model.num_experts]
  const points = readExpertCounts(store, run, maxPoints).filter(({ counts }) => counts.length === layers * experts)
  const values = new Float32Array(points.length * layers * experts)
  points.forEach(({ counts }, point) => {
    for (let layer = 0; layer < layers; layer++) {
      const own = counts.subarray(layer * experts, (layer + 1) * experts)
      const total = own.reduce((sum, count) => sum + count, 0)
      for (let expert = 0; expert < experts; expert++) {
        values[(point * layers + layer) * experts + expert] = total === 0 ? 0 : own[expert]! / total
      }
    }
  })
  return { steps: points.map(({ step }) => step), layers, experts, values: new Blob([values]) }
}

function requireNumber({ store }: Pick<Services, 'store'>, id: string): number {
  const run = runNumber(store, id)
  if (run === null) throw runNotFound(id)
  return run
}
