/**
 * A run that a Ray cluster trains: writes its job folder, submits it, and follows it to its end. Numbers come from metrics.jsonl of the folder,
 * checkpoints from its Hugging Face folders, states and the script's log from Ray's job API. A runner that is told to detach leaves the job
 * alone; the next one picks it up from what is in the folder, whether it still works or has ended since.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { writeFileAtomic } from '#core/formats/atomic.ts'
import { rayClient, type RayClient, type RayJob } from '#core/ray/client.ts'
import { AppError } from '#core/shared/errors.ts'
import type { Job } from '#core/shared/jobs.ts'
import { writeRayJob } from '#core/train/export/ray-job.ts'
import type { JobContext } from './context.ts'
import { createRayResults, type RayResults } from './ray-results.ts'
import { phaseSender, Stopped, untilStopped } from './progress.ts'

type ClusterJob = Extract<Job, { kind: 'cluster' }>

const pollMs = 1000
const submitTries = 30
/** Until the first step the script's log is what there is to see. */
const logEveryMs = 5000
const shownLines = 30
const colours = /\x1b\[[0-9;]*m/g

const folderOf = ({ config, runId }: ClusterJob): string => join(resolve(config.cluster!.folder), `moe-${runId}`)
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

/** The command that the cluster runs: its own name for the job folder. */
function entrypointOf({ config, runId }: ClusterJob): string {
  const { python, clusterFolder, folder } = config.cluster!
  const there = clusterFolder === null ? resolve(folder) : clusterFolder.replace(/\/+$/, '')
  return `${python} ${quoted(`${there}/moe-${runId}/train.py`)}`
}

/** Submits; a Ray that has just begun has no agent for jobs yet, which it says. */
async function submit(client: RayClient, job: Parameters<RayClient['submit']>[0], context: JobContext): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return await client.submit(job)
    } catch (error) {
      const comesLater = error instanceof AppError && error.code === 'ray.refused' && error.message.includes('try again later')
      if (!comesLater || tries === submitTries || context.stopRequest() !== 'none') throw error
      await new Promise((resolve) => setTimeout(resolve, pollMs))
    }
  }
}

/** Writes and submits the job; gives the id that Ray knows it by, which is in the folder before Ray has it. */
async function begin(job: ClusterJob, client: RayClient, context: JobContext): Promise<string> {
  const { config, stands, paths } = job
  const folder = folderOf(job)
  const phase = phaseSender(context)
  const { rayVersion } = await client.check()
  if (stands.step > 0 && !existsSync(join(folder, 'checkpoints', `step-${stands.step}`, 'optimizer.pt'))) {
    throw new AppError('ray.nothingToGoOnFrom', `${folder} has no checkpoint of step ${stands.step} with its moments`, { params: { file: folder, step: stands.step }, hint: 'Roll the run back to its beginning, or continue from its checkpoint as a new run.' })
  }
  mkdirSync(folder, { recursive: true })
  rmSync(join(folder, 'submission.json'), { force: true })
  await writeRayJob(folder, {
    config,
    mix: join(paths.library, 'mixes', job.mixId),
    start: config.startFrom === null ? null : join(paths.library, 'checkpoints', config.startFrom.checkpointId),
    script: join(paths.resources, 'ray/train.py'),
    stands,
    onProgress: (name, done, total, unit) => {
      if (context.stopRequest() !== 'none') throw new Stopped('stopped')
      phase(`cluster.${name}`, done, total, unit)
    },
  })
  const submissionId = `moe-${job.runId}-${Date.now().toString(36)}`
  await writeFileAtomic(join(folder, 'submission.json'), [JSON.stringify({ submissionId, address: config.cluster!.address })])
  await submit(client, { submissionId, entrypoint: entrypointOf(job), environment: { RAY_DEDUP_LOGS: '0', PYTHONUNBUFFERED: '1' }, metadata: { name: config.name } }, context)
  context.log('info', `submitted to Ray ${rayVersion} at ${config.cluster!.address} as ${submissionId}`)
  return submissionId
}

/** The job that an earlier runner submitted; null when it did not come so far. */
function submissionOf(job: ClusterJob): string | null {
  const path = join(folderOf(job), 'submission.json')
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as { submissionId: string }).submissionId : null
}

/** Says what the script has printed since the last time. */
function createLogReader(client: RayClient, submissionId: string, context: JobContext, skip: boolean): (level: 'info' | 'error') => Promise<string[]> {
  let told = 0
  let isFirst = skip
  return async (level) => {
    const lines = (await client.log(submissionId)).replace(colours, '').split(/[\r\n]+/).map((line) => line.trimEnd()).filter((line) => line.trim() !== '')
    if (isFirst && level === 'info') told = lines.length
    isFirst = false
    // What the script says of its steps has come as numbers already.
    const fresh = lines.slice(told).filter((line) => !/\{"(step|device)":/.test(line))
    for (const line of fresh.slice(-shownLines)) context.log(level, line)
    told = lines.length
    return lines
  }
}

/** Why a job that failed did: the exception that its log ends with. */
function failure(lines: readonly string[], message: string): AppError {
  const found = (lines.findLast((line) => /\b[A-Z]\w*(Error|Exception)\b.*:/.test(line)) ?? lines.at(-1) ?? message).replace(/^\s*\(.*?pid=[^)]*\)\s*/, '').trim().slice(0, 400)
  const notFinite = /step (\d+): .*not finite/.exec(lines.join('\n'))
  if (notFinite) return new AppError('train.notFinite', notFinite[0], { params: { step: Number(notFinite[1]), field: 'loss', found: 'NaN' }, hint: 'Resume from the last checkpoint with a lower learning rate, or start again with a longer warm-up.' })
  return new AppError('ray.failed', `the script failed on the cluster: ${found}`, { params: { found }, hint: 'The last lines of its log are in the log of this run.' })
}

/** A wait that a message ends. */
function createPollWait(context: JobContext): { wait(): Promise<void>; isDetached(): boolean } {
  let wake: () => void = () => undefined
  let detached = false
  context.onMessage((message) => {
    if (message.type === 'stop' && message.detach) detached = true
    wake()
  })
  return {
    isDetached: () => detached,
    wait: () =>
      new Promise((done) => {
        const timer = setTimeout(done, pollMs)
        wake = () => {
          clearTimeout(timer)
          done()
        }
      }),
  }
}

/** Passes on what the user asked for: to save and end after the step under way, or to end at once. */
async function passOn(request: 'save' | 'discard', state: RayJob['state'], client: RayClient, submissionId: string, folder: string): Promise<void> {
  if (request === 'save' && state === 'RUNNING') await writeFileAtomic(join(folder, 'stop'), [''])
  else await client.stop(submissionId)
}

async function follow(job: ClusterJob, submissionId: string, client: RayClient, results: RayResults, context: JobContext, polling: ReturnType<typeof createPollWait>): Promise<'done' | 'stopped'> {
  const tellLog = createLogReader(client, submissionId, context, !job.begin)
  let passedOn: 'none' | 'save' | 'discard' = 'none'
  let [logAt, isLost, lastState] = [0, false, '']
  for (;;) {
    if (polling.isDetached()) return 'stopped'
    // Read before the state is asked for and after it: what was written before the end is all there.
    await results.read()
    let found: RayJob | null
    try {
      found = await client.job(submissionId)
      if (found !== null && results.step() === job.stands.step && Date.now() - logAt > logEveryMs) {
        logAt = Date.now()
        await tellLog('info')
      }
      const request = context.stopRequest()
      if (request !== passedOn && request !== 'none' && found !== null && !polling.isDetached()) {
        passedOn = request
        await passOn(request, found.state, client, submissionId, folderOf(job))
        if (request === 'discard') return 'stopped'
      }
      if (isLost) context.log('info', `${job.config.cluster!.address} answers again`)
      isLost = false
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      // The job goes on without being watched; so does the watching.
      if (!isLost) context.log('warning', error.message)
      isLost = true
      if (context.stopRequest() === 'discard') return 'stopped'
      await polling.wait()
      continue
    }
    if (found === null) throw new AppError('ray.jobGone', `Ray at ${job.config.cluster!.address} does not know job ${submissionId}`, { params: { address: job.config.cluster!.address, job: submissionId }, hint: 'It was started anew since. Resume the run: it goes on from its last checkpoint.' })
    if (found.state !== lastState && results.step() === job.stands.step) context.send({ type: 'phase', phase: { phase: found.state === 'PENDING' ? 'cluster.pending' : 'cluster.starting', done: 0, total: null, unit: '', etaSeconds: null } })
    lastState = found.state
    if (['PENDING', 'RUNNING'].includes(found.state)) {
      await polling.wait()
      continue
    }
    await results.read()
    if (found.state === 'FAILED') throw failure(await tellLog('error'), found.message)
    return results.step() >= job.config.steps ? 'done' : 'stopped'
  }
}

export function runClusterJob(job: ClusterJob, context: JobContext): Promise<'done' | 'stopped'> {
  const client = rayClient(job.config.cluster!.address)
  const polling = createPollWait(context)
  return untilStopped(async () => {
    const known = job.begin ? null : submissionOf(job)
    const submissionId = known ?? (await begin(job, client, context))
    if (known !== null) context.log('info', `picked up ${known} at ${job.config.cluster!.address}`)
    const results = createRayResults(job, folderOf(job), context)
    if ((await follow(job, submissionId, client, results, context, polling)) === 'stopped') throw new Stopped(basename(folderOf(job)))
  })
}
