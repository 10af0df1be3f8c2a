/** Calls on evaluations: which tasks there are, measuring a checkpoint in a runner, and what came out. One job per evaluation, results stored as they come. */
import { readTasks, taskFolders, type TaskFile } from '#core/formats/task-files.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Evaluation } from '#core/shared/evaluations.ts'
import { addResult, deleteEvaluation, endEvaluation, findEvaluation, insertEvaluation, listEvaluations } from '#core/store/evaluations.ts'
import { api } from '../api.ts'
import { requireUsable } from '../checkpoints/checkpoints.ts'
import { jobPaths, type Services } from '../services.ts'

const keyOf = (id: string): string => `evaluation ${id}`

/** The tasks there are. A file that cannot be read as one is no reason to hide the others; the log says what is wrong with it. */
const tasksByName = ({ host }: Pick<Services, 'host'>): Map<string, TaskFile> => readTasks(taskFolders(host.resourcesPath, host.libraryPath), (error) => host.log('warning', error.message))

export const evaluationsRouter = api.evaluations.router({
  tasks: api.evaluations.tasks.handler(({ context }) => [...tasksByName(context).values()].map(({ task }) => ({ ...task.header, items: task.items.length }))),

  list: api.evaluations.list.handler(({ context }) => listEvaluations(context.store).map((evaluation) => withProgress(context, evaluation))),

  start: api.evaluations.start.handler(({ input, context }) => {
    const { host, store, tasks } = context
    const checkpoint = requireUsable(context, input.checkpointId)
    const known = tasksByName(context)
    const paths = input.tasks.map((name) => known.get(name)?.path ?? taskNotFound(name))
    const id = host.newId()
    insertEvaluation(store, { id, checkpoint, createdAt: host.now(), tasks: input.tasks })
    tasks.start(keyOf(id), { kind: 'evaluate', paths: jobPaths(host), checkpointId: checkpoint.id, taskFiles: paths, limit: input.limit }, {
      phase: () => undefined,
      message: (message) => {
        if (message.type === 'evaluated') addResult(store, id, message.result)
      },
      end: (end) => {
        if (store.open) endEvaluation(store, id, end.outcome, end.outcome === 'failed' ? end.error : null)
      },
    })
    return withProgress(context, findEvaluation(store, id)!)
  }),

  stop: api.evaluations.stop.handler(async ({ input, context }) => {
    await context.tasks.stop(keyOf(requireEvaluation(context, input.id).id))
    return {}
  }),

  remove: api.evaluations.remove.handler(async ({ input, context }) => {
    requireEvaluation(context, input.id)
    await context.tasks.stop(keyOf(input.id))
    deleteEvaluation(context.store, input.id)
    return {}
  }),
})

function withProgress({ tasks }: Services, evaluation: Evaluation): Evaluation {
  const phase = tasks.phase(keyOf(evaluation.id))
  return phase === null ? evaluation : { ...evaluation, progress: { done: phase.done, total: phase.total ?? phase.done } }
}

function requireEvaluation({ store }: Services, id: string): Evaluation {
  const evaluation = findEvaluation(store, id)
  if (evaluation === null) throw new AppError('evaluations.notFound', `There is no evaluation ${id}`, { params: { id }, hint: 'It may have been removed.' })
  return evaluation
}

function taskNotFound(name: string): never {
  throw new AppError('tasks.notFound', `there is no task "${name}"`, { params: { name, there: '' }, hint: 'It may have been removed from the folder of tasks.' })
}
