/**
 * Takes a run back to one of its checkpoints and lets it go on without the data that did the harm. What is skipped becomes part of the
 * recipe, so the new curve is as reproducible as the old one. Later checkpoints go: a resume must never pick up the abandoned path.
 */
import { join } from 'node:path'
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import { AppError } from '#core/shared/errors.ts'
import { positionOfStep } from '#core/shared/run-control.ts'
import type { Run, RunConfig } from '#core/shared/runs.ts'
import { listCheckpoints } from '#core/store/checkpoints.ts'
import { dependantsOf, updateRun } from '#core/store/runs.ts'
import { removeCheckpoint, requireCheckpoint, verifyCheckpoint } from '../checkpoints/checkpoints.ts'
import { readTrainingState } from '../checkpoints/files.ts'
import { checkpointsFolder, presentRun, type Services } from '../services.ts'
import { recordIntervention } from './interventions.ts'
import { rewindRun } from './rewind.ts'

type Input = { id: string; checkpointId: string | null; skip: { step: number; steps: number } | null }

/** Throws runs.hasDependants, naming the first, when another run starts from a checkpoint of run `id` that is in `among` (or any). */
export function requireNoDependants({ store }: Pick<Services, 'store'>, id: string, among?: readonly string[]): void {
  const [first, ...others] = dependantsOf(store, id).filter(({ checkpointId }) => among === undefined || among.includes(checkpointId))
  if (first === undefined) return
  throw new AppError('runs.hasDependants', `Run ${first.name} starts from checkpoint ${first.checkpointId}`, {
    params: { id, name: first.name, count: others.length + 1, checkpoint: first.checkpointId },
    hint: 'Remove the runs that start from it first, or keep it.',
  })
}

export async function rollBackRun(services: Services, { id, checkpointId, skip }: Input): Promise<Run> {
  const { supervisor, orphans, store, host } = services
  const { status, config: asked } = presentRun(services, id)
  if (status === 'queued') throw new AppError('runs.notResumable', `Run ${id} is queued`, { params: { id, status }, hint: 'Take it out of the queue first.' })
  const target = checkpointId === null ? null : await usable(services, id, checkpointId)
  const later = (): Checkpoint[] => listCheckpoints(store, id).filter(({ step }) => target === null || step > target.step)
  requireNoDependants(services, id, later().map((checkpoint) => checkpoint.id))
  // What would be refused is refused before anything is stopped or removed.
  if (skip !== null) withSkip(services, asked, target, skip)
  await supervisor.halt(id)
  await orphans.waitFor(id)
  const run = presentRun(services, id)
  const config = skip === null ? run.config : withSkip(services, run.config, target, skip)
  const removed = later()
  for (const checkpoint of removed) await removeCheckpoint(services, checkpoint.id)
  rewindRun(services, id, target)
  updateRun(store, id, { config, status: 'stopped', error: null, endedAt: host.now() })
  const what = { kind: 'rollBack', fromStep: run.step, skippedStep: skip?.step ?? null, skippedSteps: skip?.steps ?? 0, removedCheckpoints: removed.length } as const
  recordIntervention(services, id, { step: (target?.step ?? 0) + 1, at: host.now(), what })
  return supervisor.resume(id)
}

async function usable(services: Services, runId: string, checkpointId: string): Promise<Checkpoint> {
  const checkpoint = requireCheckpoint(services, checkpointId)
  const problem = checkpoint.runId === runId ? await verifyCheckpoint(services, checkpointId) : `it belongs to run ${checkpoint.runId}`
  if (problem === null) return checkpoint
  throw new AppError('checkpoints.damaged', `Checkpoint ${checkpointId} cannot be used: ${problem}`, { params: { id: checkpointId, found: problem }, hint: 'Use another checkpoint, or restore its folder from a backup.' })
}

/** The steps' data as instances of the data order, found by going on from where the run will stand. */
function withSkip({ host }: Services, config: RunConfig, target: Checkpoint | null, { step, steps }: { step: number; steps: number }): RunConfig {
  const base = target?.id ?? (config.stage === 'fork' ? config.startFrom!.checkpointId : null)
  const from = base === null ? { step: 0, loaderPosition: 0 } : readTrainingState(join(checkpointsFolder(host), base), base)
  if (step <= from.step) throw new AppError('runs.skipBeforeStart', `Step ${step} is not after step ${from.step}`, { params: { found: step, expected: from.step + 1 }, hint: 'Go back to an earlier checkpoint, or skip a later step.' })
  const position = positionOfStep(config.control, from, step, config.sequencesPerStep)
  const skips = [...config.control.skips, { position, instances: steps * config.sequencesPerStep }]
  return { ...config, control: { ...config.control, skips } }
}
