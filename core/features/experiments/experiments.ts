/** Calls on experiments: plan and create the runs of one, and read from their series what came out. */
import { AppError } from '#core/shared/errors.ts'
import { judge, meanCurve, pairedDifference, reaches, spreadOver, type Curve } from '#core/shared/experiment-results.ts'
import { templateOf } from '#core/shared/experiment-templates.ts'
import { planExperiment, type ArmResult, type Experiment, type ExperimentInput, type ExperimentResult, type PlannedRun } from '#core/shared/experiments.ts'
import { countParameters, trainingFlopsPerToken } from '#core/shared/models.ts'
import type { Run } from '#core/shared/runs.ts'
import { deleteExperiment, findExperiment, insertExperiment, listExperiments } from '#core/store/experiments.ts'
import { readSeries } from '#core/store/metrics.ts'
import { runNumber, runsOfExperiment } from '#core/store/runs.ts'
import { api } from '../api.ts'
import { startingPoint } from '../runs/starting-point.ts'
import { publishRun, type Services } from '../services.ts'

export const experimentsRouter = api.experiments.router({
  list: api.experiments.list.handler(({ context }) => listExperiments(context.store)),
  get: api.experiments.get.handler(({ input, context }) => resultOf(context, requireExperiment(context, input.id))),
  plan: api.experiments.plan.handler(({ input, context }) => plan(context, input)),

  create: api.experiments.create.handler(({ input, context }) => {
    const { host, store, supervisor } = context
    const runs = plan(context, input)
    // All or none: what would refuse the last run refuses the first.
    runs.forEach(({ config }) => supervisor.requireCreatable(config))
    const experiment: Experiment = { id: host.newId(), createdAt: host.now(), input }
    insertExperiment(store, experiment)
    runs.forEach(({ arm, config }) => supervisor.create(config, { id: experiment.id, arm }))
    return experiment
  }),

  remove: api.experiments.remove.handler(({ input: { id }, context }) => {
    requireExperiment(context, id)
    const runs = runsOfExperiment(context.store, id)
    const active = runs.find(({ status }) => ['queued', 'running', 'stopping'].includes(status))
    if (active !== undefined) throw new AppError('runs.active', `Run ${active.id} is ${active.status}`, { params: { id: active.id, status: active.status }, hint: 'Stop its runs first.' })
    deleteExperiment(context.store, id)
    runs.forEach((run) => publishRun(context, run.id))
    return {}
  }),
})

const plan = (context: Services, input: ExperimentInput): PlannedRun[] => planExperiment(input, input.denseCheckpointId === null ? null : denseStart(context, input.denseCheckpointId))

function denseStart(context: Services, checkpointId: string): ReturnType<typeof startingPoint> {
  const start = startingPoint(context, checkpointId)
  if (start.config.model.num_experts === 0) return start
  throw new AppError('experiments.notDense', `Checkpoint ${checkpointId} is of a model that has experts already`, { params: { id: checkpointId }, hint: 'Choose a checkpoint of a dense model; the experiment MoE against dense makes one.' })
}

function requireExperiment({ store }: Pick<Services, 'store'>, id: string): Experiment {
  const found = findExperiment(store, id)
  if (found !== null) return found
  throw new AppError('experiments.notFound', `There is no experiment ${id}`, { params: { id }, hint: 'It may have been removed. Go back to the list of experiments.' })
}

function resultOf({ store, supervisor }: Services, experiment: Experiment): ExperimentResult {
  const template = templateOf(experiment.input.template)
  const runs = runsOfExperiment(store, experiment.id).map((run) => supervisor.withLiveFields(run))
  const finished = (arm: string): Run[] => runs.filter((run) => run.arm === arm && run.status === 'done')
  const series = (run: Run, key: string): { steps: number[]; values: number[] } => readSeries(store, runNumber(store, run.id)!, key, { maxPoints: 4000 })
  const curveOf = (run: Run): Curve => {
    const { steps, values } = series(run, 'validation')
    return { tokens: steps.map((step) => step * run.config.sequencesPerStep * run.config.sequenceLength), losses: values }
  }
  const curves = template.arms.map(({ id }) => {
    const runsOfArm = finished(id)
    const own = runsOfArm.map(curveOf)
    const bySeed = new Map(runsOfArm.flatMap(({ config }, i) => own[i]!.losses.slice(-1).map((loss) => [config.seed, loss] as const)))
    const final = spreadOver([...bySeed.values()])
    return { arm: id, curve: meanCurve(own), final: final?.mean ?? null, validation: final, bySeed }
  })
  const better = curves.find(({ arm }) => arm === template.paper.better)!
  const reached = reaches(curves)
  const arms = curves.flatMap(({ arm, validation, bySeed }): ArmResult[] => {
    const own = runs.filter((run) => run.arm === arm)
    const first = own[0]
    if (first === undefined) return []
    const parameters = countParameters(first.config.model)
    return [{
      arm,
      runIds: own.map(({ id }) => id),
      done: finished(arm).length,
      validation,
      difference: arm === better.arm ? null : pairedDifference(bySeed, better.bySeed),
      // The mean over the last twentieth: one step's loss is mostly its batch.
      trainLoss: spreadOver(finished(arm).flatMap((run) => tailMean(series(run, 'loss').values))),
      tokensPerSecond: spreadOver(finished(arm).map((run) => run.tokens / Math.max(run.seconds, 1e-9))),
      totalParameters: parameters.total,
      activeParameters: parameters.active,
      flopsPerToken: trainingFlopsPerToken(first.config.model, first.config.sequenceLength),
      tokensToReach: reached.get(arm) ?? null,
    }]
  })
  return { experiment, runs, arms, ...judge(arms, template.paper) }
}

function tailMean(values: readonly number[]): number[] {
  const tail = values.slice(-Math.max(1, Math.round(values.length / 20)))
  return tail.length === 0 ? [] : [tail.reduce((sum, value) => sum + value, 0) / tail.length]
}
