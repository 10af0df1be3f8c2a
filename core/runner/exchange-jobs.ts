/** Jobs of the exchange: a model from outside into the library, a checkpoint out of it. */
import { existsSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { listHubFiles } from '#core/data/download/hugging-face.ts'
import { bundleFileName, importBundle, writeBundle } from '#core/formats/bundle.ts'
import type { Job } from '#core/shared/jobs.ts'
import { exportModel, requireFree } from '#core/train/export/export-model.ts'
import { importModel } from '#core/train/import-model.ts'
import type { JobContext } from './context.ts'
import { fetchFiles } from './fetch-files.ts'
import { checkParity } from './parity.ts'
import { phaseSender, stopSignal, untilStopped } from './progress.ts'

type JobOf<K extends Job['kind']> = Extract<Job, { kind: K }>

/** What a name says of a path or a repository. */
const nameOf = (from: string): string => basename(from.replace(/[\\/]+$/, '')).replace(/\.gguf$/i, '').slice(0, 120) || 'Import'

export function runImportJob({ paths, request, folder, hub, token, runId, checkpointId, codeVersion }: JobOf<'importModel'>, context: JobContext): Promise<'done' | 'stopped'> {
  const signal = stopSignal(context)
  const phase = phaseSender(context)
  return untilStopped(async () => {
    if (request.isRepository) {
      phase('list', 0, null, '')
      const wanted = await listHubFiles({ kind: 'model', repository: request.from, revision: request.revision, hub, token }, folder)
      await fetchFiles(wanted, { token, signal, phase, log: context.log })
    }
    const path = request.isRepository ? folder : request.from
    const checkpoints = join(paths.library, 'checkpoints')
    const onProgress = (name: string, done: number, total: number, unit: string): void => {
      signal.throwIfAborted()
      phase(name, done, total, unit)
    }
    if (existsSync(join(path, bundleFileName))) {
      for (const manifest of await importBundle(path, checkpoints, onProgress)) context.send({ type: 'checkpoint', manifest })
    } else {
      const identity = { id: checkpointId, runId, name: request.name ?? nameOf(request.from), createdAt: Date.now(), codeVersion, from: request.isRepository ? `${request.from}@${request.revision}` : basename(path) }
      context.send({ type: 'checkpoint', manifest: await importModel(path, request.type, identity, checkpoints, onProgress) })
    }
    if (request.isRepository) rmSync(folder, { recursive: true, force: true })
  })
}

export function runExportJob({ paths, request, bundle }: JobOf<'exportModel'>, context: JobContext): Promise<'done' | 'stopped'> {
  const signal = stopSignal(context)
  const phase = phaseSender(context)
  const { to, out } = request
  return untilStopped(async () => {
    const onProgress = (done: number, total: number, unit: string): void => {
      signal.throwIfAborted()
      phase('export', done, total, unit)
    }
    const checkpoints = join(paths.library, 'checkpoints')
    if (to === 'bundle') {
      requireFree(out)
      const files = await writeBundle(checkpoints, out, { ...bundle!, optimizer: request.optimizer }, onProgress)
      return context.send({ type: 'exported', result: { out, files, sizeBytes: sizeOf(files), parity: null } })
    }
    const path = join(checkpoints, request.checkpointId)
    const files = await exportModel(path, to, out, request, { onProgress })
    phase('compare', 0, null, '')
    const parity = await checkParity(path, to, out, request)
    context.send({ type: 'exported', result: { out, files, sizeBytes: sizeOf(files), parity } })
  })
}

const sizeOf = (files: Record<string, { sizeBytes: number }>): number => Object.values(files).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
