/**
 * Makes the store agree with the checkpoints on disk, which outlive it: a runner that lost its core still saves, a folder
 * may be damaged or deleted, a library may come back from a backup. Files are the truth of what exists, hashes of whether it
 * is good. Nothing on disk is changed here, except what unfinished writes left behind.
 */
import { join } from 'node:path'
import type { CheckpointManifest, TrainingState } from '#core/shared/checkpoints.ts'
import { checkpointIds, recordCheckpoint, setCheckpointValid } from '#core/store/checkpoints.ts'
import { insertSteps } from '#core/store/metrics.ts'
import { inTransaction } from '#core/store/open.ts'
import { findRun, insertLogLine, insertRun, runNumber, updateRun } from '#core/store/runs.ts'
import { checkpointsFolder, type Services } from '../services.ts'
import { findDamage, findMissing, listFolders, readManifest, readTrainingState, removeLeftovers } from './files.ts'

type Context = Pick<Services, 'host' | 'store'>

/**
 * Adopts complete checkpoints that the store does not know, with the step records they carry, and marks known ones whose
 * files are gone or changed in size. Ids of the runs that something changed of are returned.
 */
export async function reconcileCheckpoints({ host, store }: Context): Promise<Set<string>> {
  const folder = checkpointsFolder(host)
  const known = checkpointIds(store)
  const changed = new Set<string>()
  for (const id of listFolders(folder)) {
    if (known.get(id) === true) continue
    const manifest = readManifest(join(folder, id), id)
    const problem = 'problem' in manifest ? manifest.problem : await findDamage(join(folder, id), manifest)
    if (problem !== null || 'problem' in manifest) host.log('warning', `checkpoint ${id} is not used: ${problem}`)
    else changed.add(adopt({ host, store }, manifest, readTrainingState(join(folder, id), id)))
  }
  for (const [id, valid] of known) {
    if (!valid) continue
    const manifest = readManifest(join(folder, id), id)
    const problem = 'problem' in manifest ? manifest.problem : findMissing(join(folder, id), manifest)
    if (problem === null) continue
    host.log('warning', `checkpoint ${id} cannot be used any more: ${problem}`)
    setCheckpointValid(store, id, false)
  }
  return changed
}

/** Removes what crashes left in the library's folders. Only when no runner that may still be writing is alive. */
export async function removeAllLeftovers({ host }: Context): Promise<void> {
  for (const name of ['checkpoints', 'mixes', 'tokenizers', 'analyses']) await removeLeftovers(join(host.libraryPath, name))
}

/** Writes the step records of a checkpoint to the store, which may lack the last ones before a crash. */
export function storeRecords(store: Context['store'], runId: string, state: TrainingState): void {
  const run = runNumber(store, runId)
  if (run !== null) inTransaction(store, () => insertSteps(store, run, state.records))
}

/** A run that the store lost is made anew from what its checkpoint knows: recipe, progress, last records. */
export function adopt({ host, store }: Context, manifest: CheckpointManifest, state: TrainingState): string {
  inTransaction(store, () => {
    if (runNumber(store, manifest.runId) === null) {
      const status = state.step >= state.config.steps ? 'done' : 'interrupted'
      insertRun(store, { id: manifest.runId, config: state.config, status, createdAt: manifest.createdAt, mixId: manifest.mixId || null })
    }
    const run = findRun(store, manifest.runId)!
    recordCheckpoint(store, runNumber(store, manifest.runId)!, manifest)
    storeRecords(store, manifest.runId, state)
    if (state.step > run.step) updateRun(store, run.id, { step: state.step, tokens: state.tokens, seconds: state.seconds })
    insertLogLine(store, run.id, { at: host.now(), level: 'info', text: manifest.origin ? `Imported from ${manifest.origin.from}` : `Found checkpoint ${manifest.id} of step ${manifest.step} on disk` })
  })
  return manifest.runId
}
