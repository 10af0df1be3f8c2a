/** The life of a transfer: one job each, told to watchers as it goes. What an import made is taken into the store as its checkpoint comes. */
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { bundleFileName } from '#core/formats/bundle.ts'
import { AppError } from '#core/shared/errors.ts'
import type { ExportRequest, ImportRequest, Transfer } from '#core/shared/exchange.ts'
import type { FromRunner, Job } from '#core/shared/jobs.ts'
import { listCheckpoints } from '#core/store/checkpoints.ts'
import { findRun } from '#core/store/runs.ts'
import { requireCheckpoint } from '../checkpoints/checkpoints.ts'
import { readTrainingState } from '../checkpoints/files.ts'
import { adopt } from '../checkpoints/reconcile.ts'
import type { TaskEnd } from '../jobs/tasks.ts'
import { checkpointsFolder, jobPaths, publishRun, type Services } from '../services.ts'
import { hubSettings } from '../sources/hub.ts'
import { readRecords, writeRecords } from './records.ts'

const keyOf = (id: string): string => `transfer ${id}`

/** The transfer as it stands. Throws exchange.notFound. */
export function presentTransfer({ transfers, tasks }: Services, id: string): Transfer {
  const transfer = transfers.get(id)
  if (transfer === undefined) throw new AppError('exchange.notFound', `There is no transfer ${id}`, { params: { id }, hint: 'The workbench was started anew since; what a transfer made is kept.' })
  return { ...transfer, phase: tasks.phase(keyOf(id)) }
}

function change(services: Services, id: string, to: Partial<Transfer>): void {
  services.transfers.set(id, { ...services.transfers.get(id)!, ...to } as Transfer)
  services.transferNews.publish(presentTransfer(services, id))
}

function begin(services: Services, transfer: Transfer, job: Job, onMessage: (message: FromRunner) => void, onEnd: (end: TaskEnd) => void): Transfer {
  const { id } = transfer
  services.transfers.set(id, transfer)
  services.tasks.start(keyOf(id), job, {
    phase: () => change(services, id, {}),
    message: (message) => (message.type === 'log' ? services.host.log(message.line.level, message.line.text) : onMessage(message)),
    end(end) {
      onEnd(end)
      change(services, id, end.outcome === 'failed' ? { state: 'failed', error: end.error } : { state: end.outcome })
    },
  })
  services.transferNews.publish(presentTransfer(services, id))
  return presentTransfer(services, id)
}

const fresh = ({ host }: Services, name: string) => ({ id: host.newId(), name, state: 'running' as const, phase: null, error: null, createdAt: host.now(), result: null })

/** Starts an import of a path that may be read, or of a repository. */
export function startImport(services: Services, request: ImportRequest): Transfer {
  const { host, store } = services
  const transfer: Transfer = { ...fresh(services, request.name ?? request.from), kind: 'import', request }
  const isBundle = !request.isRepository && existsSync(join(request.from, bundleFileName))
  // The same repository goes on where it was stopped.
  const folder = join(host.libraryPath, 'downloads', `model-${request.from.replace(/[^\w.-]+/g, '--')}-${request.revision.replace(/[^\w.-]+/g, '--')}`.slice(0, 200))
  const job: Job = { kind: 'importModel', paths: jobPaths(host), request, folder, ...hubSettings(store), runId: host.newId(), checkpointId: host.newId(), codeVersion: host.version }
  return begin(services, transfer, job, (message) => {
    if (message.type !== 'checkpoint') return
    const { id, runId, files } = message.manifest
    adopt(services, message.manifest, readTrainingState(join(checkpointsFolder(host), id), id))
    publishRun(services, runId)
    change(services, transfer.id, { result: { runId, checkpointId: id, files, sizeBytes: Object.values(files).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) } })
  }, (end) => {
    if (!isBundle || end.outcome !== 'done') return
    readRecords(services, request.from)
    const { result } = presentTransfer(services, transfer.id) as Extract<Transfer, { kind: 'import' }>
    if (result !== null) publishRun(services, result.runId)
  })
}

/** Starts an export; of a bundle the records are written first. Throws checkpoints.notFound, checkpoints.damaged. */
export function startExport(services: Services, request: ExportRequest): Transfer {
  const { host, store } = services
  const checkpoint = requireCheckpoint(services, request.checkpointId)
  if (!checkpoint.valid) throw new AppError('checkpoints.damaged', `Checkpoint ${checkpoint.id} cannot be used`, { params: { id: checkpoint.id, found: 'files that do not match their hashes' }, hint: 'Use another checkpoint, or restore its folder from a backup.' })
  const transfer: Transfer = { ...fresh(services, checkpoint.runName), kind: 'export', request }
  const records = join(host.libraryPath, 'exports', transfer.id)
  const chosen = request.allCheckpoints ? listCheckpoints(store, checkpoint.runId).filter(({ valid }) => valid) : [checkpoint]
  if (request.to === 'bundle') writeRecords(services, findRun(store, checkpoint.runId)!, chosen, records)
  const bundle = request.to === 'bundle' ? { records, runId: checkpoint.runId, checkpointIds: chosen.map(({ id }) => id), codeVersion: host.version } : null
  return begin(services, transfer, { kind: 'exportModel', paths: jobPaths(host), request, bundle }, (message) => {
    if (message.type === 'exported') change(services, transfer.id, { result: message.result })
  }, () => rmSync(records, { recursive: true, force: true }))
}

export const stopTransfer = ({ tasks }: Services, id: string): Promise<void> => tasks.stop(keyOf(id))
