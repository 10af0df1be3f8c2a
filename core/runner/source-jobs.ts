/** Jobs on sources: reading one through, and fetching one. Files of a download are whole or absent, so a later job fetches only what is missing. */
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { listHubFiles, type HubFile } from '#core/data/download/hugging-face.ts'
import { baseOf } from '#core/data/readers/files.ts'
import { inspectSource } from '#core/data/readers/source.ts'
import type { Job } from '#core/shared/jobs.ts'
import type { DownloadRequest } from '#core/shared/sources.ts'
import type { JobContext } from './context.ts'
import { fetchFiles } from './fetch-files.ts'
import { phaseSender, stopSignal, untilStopped } from './progress.ts'
import { fetchSample } from './sample-mix-job.ts'

type JobOf<K extends Job['kind']> = Extract<Job, { kind: K }>

/** Reads on past every bad row: how many there are is what a user needs to decide. */
const everyBadRow = Number.MAX_SAFE_INTEGER

export function runLookJob({ spec }: JobOf<'lookAtSource'>, context: JobContext): Promise<'done' | 'stopped'> {
  const signal = stopSignal(context)
  const phase = phaseSender(context)
  return untilStopped(async () => {
    const tolerant = { ...spec, skipBadRows: everyBadRow }
    const base = baseOf(spec.paths)
    phase('look', 0, null, 'documents')
    context.send({ type: 'report', report: await inspectSource(tolerant, base, { complete: false }) })
    const onProgress = (documents: number): void => {
      signal.throwIfAborted()
      phase('look', documents, null, 'documents')
    }
    context.send({ type: 'report', report: await inspectSource(tolerant, base, { complete: true, onProgress }) })
  })
}

/** The files of a request and where they go. Two addresses that end alike get names of their own. */
export async function listDownloads({ dataset, revision, urls }: DownloadRequest, folder: string, hub: string, token: string | null): Promise<HubFile[]> {
  if (dataset !== null) return listHubFiles({ repository: dataset, revision, hub, token }, folder)
  const taken = new Set<string>()
  return urls.map((url) => {
    const name = decodeURIComponent(basename(new URL(url).pathname)).replace(/[^\w.-]+/g, '_').replace(/^\.+/, '') || 'file'
    let free = name
    for (let i = 2; taken.has(free); i++) free = `${i}-${name}`
    taken.add(free)
    return { url, path: join(folder, free), sha256: null, sizeBytes: null }
  })
}

export function runFetchJob({ request, folder, hub, token }: JobOf<'fetchSource'>, context: JobContext): Promise<'done' | 'stopped'> {
  const signal = stopSignal(context)
  const phase = phaseSender(context)
  return untilStopped(async () => {
    phase('list', 0, null, '')
    const wanted = await listDownloads(request, folder, hub, token)
    await fetchFiles(wanted, { token: request.dataset === null ? null : token, signal, phase, log: context.log })
  })
}

export async function runFetchSampleJob({ paths }: JobOf<'fetchSample'>, context: JobContext): Promise<'done'> {
  phaseSender(context)('download', 0, null, '')
  if (!existsSync(join(paths.resources, 'sample/data/sample.json'))) await fetchSample(paths.resources, context)
  return 'done'
}
