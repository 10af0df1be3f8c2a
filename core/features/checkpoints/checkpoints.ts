/** Calls on checkpoints, and what runs do with theirs: record a new one, keep only so many, find the one to go on from. */
import { join } from 'node:path'
import type { Checkpoint, CheckpointManifest } from '#core/shared/checkpoints.ts'
import { AppError } from '#core/shared/errors.ts'
import { deleteCheckpoint, findCheckpoint, listCheckpoints, recordCheckpoint, setCheckpointValid } from '#core/store/checkpoints.ts'
import { runNumber } from '#core/store/runs.ts'
import { api } from '../api.ts'
import { checkpointsFolder, publishRun, type Services } from '../services.ts'
import { damaged, findDamage, readManifest, removeFolder } from './files.ts'

type Context = Pick<Services, 'host' | 'store'>

export const checkpointsRouter = api.checkpoints.router({
  list: api.checkpoints.list.handler(({ input, context }) => listCheckpoints(context.store, input.runId)),

  get: api.checkpoints.get.handler(({ input, context }) => requireCheckpoint(context, input.id)),

  verify: api.checkpoints.verify.handler(async ({ input, context }) => {
    const { runId } = requireCheckpoint(context, input.id)
    await verifyCheckpoint(context, input.id)
    publishRun(context, runId)
    return requireCheckpoint(context, input.id)
  }),

  remove: api.checkpoints.remove.handler(async ({ input, context }) => {
    const { runId, sizeBytes } = requireCheckpoint(context, input.id)
    await removeCheckpoint(context, input.id)
    publishRun(context, runId)
    return { freedBytes: sizeBytes }
  }),
})

/** A checkpoint whose files were good when last read. Throws checkpoints.notFound and checkpoints.damaged. */
export function requireUsable(context: Pick<Services, 'store'>, id: string): Checkpoint {
  const checkpoint = requireCheckpoint(context, id)
  if (checkpoint.valid) return checkpoint
  throw damaged(id, 'files that do not match their hashes')
}

/** The checkpoint. Throws checkpoints.notFound. */
export function requireCheckpoint({ store }: Pick<Services, 'store'>, id: string): Checkpoint {
  const checkpoint = findCheckpoint(store, id)
  if (checkpoint !== null) return checkpoint
  throw new AppError('checkpoints.notFound', `There is no checkpoint ${id}`, {
    params: { id },
    hint: 'It may have been removed, by hand or to keep only the newest ones. Choose another.',
  })
}

/** Reads every file of a checkpoint against its hash and stores what was found; null when all is well, else the damage. */
export async function verifyCheckpoint({ host, store }: Context, id: string): Promise<string | null> {
  const folder = join(checkpointsFolder(host), id)
  const manifest = readManifest(folder, id)
  const problem = 'problem' in manifest ? manifest.problem : await findDamage(folder, manifest)
  if (problem !== null) host.log('warning', `checkpoint ${id} cannot be used: ${problem}`)
  setCheckpointValid(store, id, problem === null)
  return problem
}

/** Removes a checkpoint: its files first, then its row (a row without files is found again at the next start, and marked). */
export async function removeCheckpoint({ host, store, inference }: Pick<Services, 'host' | 'store' | 'inference'>, id: string): Promise<void> {
  await inference.drop(id)
  await removeFolder(checkpointsFolder(host), id)
  deleteCheckpoint(store, id)
}

/** Records a checkpoint that a runner wrote and verified. */
export function recordNew({ store }: Context, manifest: CheckpointManifest): void {
  const run = runNumber(store, manifest.runId)
  if (run !== null) recordCheckpoint(store, run, manifest)
}

/** Removes the oldest valid checkpoints of a run beyond `keep`. The newest valid one is never among them. */
export async function pruneCheckpoints(context: Pick<Services, 'host' | 'store' | 'inference'>, runId: string, keep: number): Promise<void> {
  const valid = listCheckpoints(context.store, runId).filter((checkpoint) => checkpoint.valid)
  for (const { id } of valid.slice(Math.max(1, keep))) await removeCheckpoint(context, id)
}

/** The newest checkpoint of a run whose every file agrees with its hash; damaged newer ones are marked on the way. */
export async function newestUsable(context: Context, runId: string): Promise<Checkpoint | null> {
  for (const checkpoint of listCheckpoints(context.store, runId)) {
    if (checkpoint.valid && (await verifyCheckpoint(context, checkpoint.id)) === null) return checkpoint
  }
  return null
}
