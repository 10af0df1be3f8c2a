/**
 * Calls on analyses: each is a task of its own, found again by what was asked (checkpoints and text by their hashes), so that the same
 * question is computed once. Several wait for nobody: they share the processor like everything else.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { ablationSchema, expertDetailSchema, routingCountersSchema, type Analysis, type AnalysisSpec, type ExpertDetail } from '#core/shared/analyses.ts'
import { AppError } from '#core/shared/errors.ts'
import type { AnalysedCheckpoint, FromRunner } from '#core/shared/jobs.ts'
import { deleteAnalysis, findAnalysis, findAnalysisByKey, insertAnalysis, listAnalyses, updateAnalysis } from '#core/store/analyses.ts'
import { findMix } from '#core/store/mixes.ts'
import { api } from '../api.ts'
import { requireCheckpoint } from '../checkpoints/checkpoints.ts'
import { readManifest, removeFolder } from '../checkpoints/files.ts'
import { startShortJob } from '../devices/short-job.ts'
import type { TaskEnd } from '../jobs/tasks.ts'
import { checkpointsFolder, jobPaths, type Services } from '../services.ts'
import { readResult } from './files.ts'

/** Raise it when the same question would give another answer. */
const analysisVersion = 1
/** A text is routed while somebody waits. */
const routeLimitMs = 120_000

export const analysesRouter = api.analyses.router({
  list: api.analyses.list.handler(({ context }) => listAnalyses(context.store).map((analysis) => present(context, analysis))),

  get: api.analyses.get.handler(({ input, context }) => requireAnalysis(context, input.id)),

  create: api.analyses.create.handler(({ input, context }) => create(context, input.spec)),

  stop: api.analyses.stop.handler(async ({ input, context }) => {
    requireAnalysis(context, input.id)
    await context.tasks.stop(keyOf(input.id))
    return requireAnalysis(context, input.id)
  }),

  remove: api.analyses.remove.handler(async ({ input, context }) => {
    requireAnalysis(context, input.id)
    await context.tasks.stop(keyOf(input.id))
    await removeFolder(analysesFolder(context), input.id)
    deleteAnalysis(context.store, input.id)
    return {}
  }),

  watch: api.analyses.watch.handler(({ context, signal }) => context.analysisNews.watch(signal)),

  counters: api.analyses.counters.handler(({ input, context }) => readResult(folderOf(context, input.id), 'counters.json', routingCountersSchema)),

  expert: api.analyses.expert.handler(async ({ input, context }) => {
    const details = await readResult<ExpertDetail[]>(folderOf(context, input.id), `experts-${input.layer}.json`, expertDetailSchema.array())
    const detail = details[input.expert]
    if (detail !== undefined) return detail
    throw new AppError('analyze.noSuchExpert', `There is no expert ${input.expert} in layer ${input.layer}`, { params: { layer: input.layer, expert: input.expert }, hint: `It has experts 0 to ${details.length - 1}.` })
  }),

  ablation: api.analyses.ablation.handler(({ input, context }) => readResult(folderOf(context, input.id), 'ablation.json', ablationSchema)),

  route: api.analyses.route.handler(async ({ input, context, signal }) => {
    type Routed = Extract<FromRunner, { type: 'routed' }>
    let result: Routed | null = null
    const job = startShortJob(context, { kind: 'route', paths: jobPaths(context.host), model: analysed(context, input.checkpointId), ...input }, routeLimitMs, (message) => {
      if (message.type === 'routed') result = message
    })
    const left = (): void => job.interrupt(new AppError('analyze.left', 'Nobody waits for the answer any more'))
    if (signal?.aborted === true) left()
    signal?.addEventListener('abort', left, { once: true })
    await job.done.finally(() => signal?.removeEventListener('abort', left))
    if (result === null) throw new Error('the routing of a text ended without a result')
    const { plain, changed } = result as Routed
    return { plain, changed }
  }),
})

const keyOf = (id: string): string => `analysis ${id}`
const analysesFolder = ({ host }: Pick<Services, 'host'>): string => join(host.libraryPath, 'analyses')
const folderOf = (services: Services, id: string): string => join(analysesFolder(services), requireAnalysis(services, id).id)

const present = ({ tasks }: Services, analysis: Analysis): Analysis => ({ ...analysis, phase: tasks.phase(keyOf(analysis.id)) })

function requireAnalysis(services: Services, id: string): Analysis {
  const found = findAnalysis(services.store, id)
  if (found !== null) return present(services, found)
  throw new AppError('analyses.notFound', `There is no analysis ${id}`, { params: { id }, hint: 'It may have been removed. Go back to the list.' })
}

/** A checkpoint as a runner needs it. Throws checkpoints.notFound. */
function analysed(services: Services, id: string): AnalysedCheckpoint {
  const { runName, step } = requireCheckpoint(services, id)
  return { id, folder: join(checkpointsFolder(services.host), id), label: `${runName} · ${step}`, step }
}

/** What the answer depends on, by content: weights and text. */
function questionOf(services: Services, spec: AnalysisSpec): string {
  const weights = [spec.checkpointId, ...spec.against].map((id) => {
    requireCheckpoint(services, id)
    const manifest = readManifest(join(checkpointsFolder(services.host), id), id)
    return 'problem' in manifest ? id : (manifest.files['model.safetensors']?.sha256 ?? id)
  })
  const { data } = spec
  if (data.kind === 'mix') {
    const mix = findMix(services.store, data.mixId)
    if (mix === null) throw new AppError('mixes.notFound', `mix: there is no mix ${data.mixId}`, { params: { id: data.mixId }, hint: 'Choose one of the mixes of this library.' })
    return JSON.stringify([analysisVersion, spec.kind, weights, spec.sequenceLength, { ...data, mixId: mix.hash }])
  }
  return JSON.stringify([analysisVersion, spec.kind, weights, spec.sequenceLength, data])
}

function create(services: Services, spec: AnalysisSpec): Analysis {
  const { host, store, tasks } = services
  const key = createHash('sha256').update(questionOf(services, spec)).digest('hex')
  const known = findAnalysisByKey(store, key)
  if (known !== null) return present(services, known)
  const analysis: Analysis = { id: host.newId(), spec, status: 'running', createdAt: host.now(), endedAt: null, tokens: null, phase: null, error: null }
  const { id } = analysis
  const request = { kind: spec.kind, model: analysed(services, spec.checkpointId), against: spec.against.map((other) => analysed(services, other)), data: spec.data, sequenceLength: spec.sequenceLength }
  insertAnalysis(store, analysis, key)
  services.analysisNews.publish(analysis)
  let tokens: number | null = null
  tasks.start(keyOf(id), { kind: 'analyze', paths: jobPaths(host), analysisId: id, request }, {
    phase: () => services.analysisNews.publish(requireAnalysis(services, id)),
    message: (message) => void (message.type === 'analysed' && (tokens = message.tokens)),
    end: (end) => settle(services, id, end, tokens),
  })
  return requireAnalysis(services, id)
}

function settle(services: Services, id: string, end: TaskEnd, tokens: number | null): void {
  if (!services.store.open) return
  const found = findAnalysis(services.store, id)
  if (found === null) return
  const analysis: Analysis = { ...found, status: end.outcome, endedAt: services.host.now(), tokens, error: end.outcome === 'failed' ? end.error : null }
  updateAnalysis(services.store, analysis)
  services.analysisNews.publish(analysis)
}
