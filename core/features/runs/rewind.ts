/** Takes a run back to a checkpoint, from which the very same curve is drawn again. */
import { join } from 'node:path'
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import { deleteStepsAfter } from '#core/store/metrics.ts'
import { inTransaction } from '#core/store/open.ts'
import { deleteRecordsAfter } from '#core/store/run-records.ts'
import { findRun, runNumber, updateRun } from '#core/store/runs.ts'
import { readTrainingState } from '../checkpoints/files.ts'
import { storeRecords } from '../checkpoints/reconcile.ts'
import { checkpointsFolder, type Services } from '../services.ts'

/**
 * Voids all that came after `checkpoint` (after nothing: null), adds what the store lacks up to it, and tells watchers.
 * Nothing happens to a run that stands there already. Throws checkpoints.damaged.
 */
export function rewindRun({ host, store, events }: Pick<Services, 'host' | 'store' | 'events'>, runId: string, checkpoint: Checkpoint | null): void {
  const target = checkpoint?.step ?? 0
  if (findRun(store, runId)!.step === target) return
  const state = checkpoint === null ? null : readTrainingState(join(checkpointsFolder(host), checkpoint.id), checkpoint.id)
  inTransaction(store, () => {
    deleteStepsAfter(store, runNumber(store, runId)!, target)
    deleteRecordsAfter(store, runNumber(store, runId)!, target)
    if (state !== null) storeRecords(store, runId, state)
    updateRun(store, runId, { step: target, tokens: state?.tokens ?? 0, seconds: state?.seconds ?? 0 })
  })
  events.publish({ runId, event: { type: 'rewind', step: target } })
}
