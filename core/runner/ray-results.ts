/**
 * What a Ray job leaves in its folder, taken in as it comes: the lines of metrics.jsonl as steps of the run, finished Hugging Face folders as
 * its checkpoints. The lines are somebody else's: one that is not what it should be is told of and passed over.
 */
import { closeSync, existsSync, openSync, readSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { readMixManifest } from '#core/data/mix-manifest.ts'
import type { TrainingState } from '#core/shared/checkpoints.ts'
import type { Job } from '#core/shared/jobs.ts'
import { stepRecordSchema, type StepRecord } from '#core/shared/runs.ts'
import { importModel } from '#core/train/import-model.ts'
import type { JobContext } from './context.ts'

type ClusterJob = Extract<Job, { kind: 'cluster' }>

export type RayResults = {
  /** Takes in what is new. */
  read(): Promise<void>
  /** The last step that is known. */
  step(): number
}

const lineSchema = z.union([z.object({ device: z.object({ name: z.string(), engine: z.string() }) }), stepRecordSchema])
const importedMark = 'imported'

/** Whole lines that were appended to a file since the last call. */
function lineReader(path: string): () => string[] {
  let [offset, rest] = [0, Buffer.alloc(0)]
  return () => {
    const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0
    if (size <= offset) return []
    const file = openSync(path, 'r')
    const bytes = Buffer.alloc(size - offset)
    const count = readSync(file, bytes, 0, bytes.length, offset)
    closeSync(file)
    offset += count
    const lines = Buffer.concat([rest, bytes.subarray(0, count)])
    const end = lines.lastIndexOf(10) + 1
    rest = lines.subarray(end)
    return lines.subarray(0, end).toString('utf8').split('\n').filter(Boolean)
  }
}

/** Steps of the finished checkpoints that were not taken in yet, in order. */
function newCheckpoints(folder: string): number[] {
  const finished = existsSync(folder) ? readdirSync(folder).flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? []) : []
  return finished.map(Number).filter((step) => !existsSync(join(folder, `step-${step}`, importedMark))).sort((a, b) => a - b)
}

export function createRayResults(job: ClusterJob, folder: string, context: JobContext): RayResults {
  const { config } = job
  const { id: mixId, hash: mixHash } = readMixManifest(join(job.paths.library, 'mixes', job.mixId))
  const checkpoints = join(folder, 'checkpoints')
  const nextLines = lineReader(join(folder, 'metrics.jsonl'))
  let known = job.stands.step
  let hasFirst = !job.begin && known > 0
  let parentId = job.from ?? config.startFrom?.checkpointId ?? null
  let records: StepRecord[] = []

  function take(line: string): StepRecord[] {
    let json: unknown = null
    try {
      json = JSON.parse(line)
    } catch {
      // Said below.
    }
    const parsed = lineSchema.safeParse(json)
    if (!parsed.success) {
      context.log('warning', `metrics.jsonl: not a line of numbers: ${line.slice(0, 120)}`)
      return []
    }
    if ('device' in parsed.data) {
      const { name, engine } = parsed.data.device
      context.send({ type: 'device', device: { kind: 'ray', name, api: config.cluster!.address, driver: engine, precision: config.precision, isSoftware: false, flopsPerSecond: null } })
      return []
    }
    records.push(parsed.data)
    const isNew = parsed.data.step > known || (parsed.data.step === 0 && !hasFirst)
    if (parsed.data.step === 0) hasFirst = true
    known = Math.max(known, parsed.data.step)
    return isNew ? [parsed.data] : []
  }

  async function takeCheckpoint(step: number): Promise<void> {
    const own = records.filter((record) => record.step <= step)
    const last = own.at(-1)
    // The line of its step is written before it; a shared folder may show them the other way round.
    if (last?.step !== step) return
    context.send({ type: 'phase', phase: { phase: 'checkpoint', done: 0, total: null, unit: '', etaSeconds: null } })
    const now = Date.now()
    const id = `${job.runId}-${step}-${now.toString(36)}`
    const state: TrainingState = { step, tokens: last.tokens, seconds: last.elapsedMs / 1000, loaderPosition: step * config.sequencesPerStep, earlierSteps: 0, rng: [], config, records: own }
    const trained = { state, mixId, mixHash, parentId, validationLoss: last.scalars.validation ?? null }
    const path = join(checkpoints, `step-${step}`)
    const identity = { id, runId: job.runId, name: config.name, createdAt: now, codeVersion: job.codeVersion, from: `Ray at ${config.cluster!.address}`, trained }
    const manifest = await importModel(path, 'keep', identity, join(job.paths.library, 'checkpoints'))
    writeFileSync(join(path, importedMark), id)
    records = records.filter((record) => record.step > step)
    parentId = id
    context.send({ type: 'checkpoint', manifest })
    // Only the newest is needed there, to go on from.
    for (const name of readdirSync(checkpoints)) if (Number(/^step-(\d+)$/.exec(name)?.[1] ?? step) < step) rmSync(join(checkpoints, name), { recursive: true, force: true })
  }

  return {
    step: () => known,
    async read() {
      const steps = nextLines().flatMap(take)
      if (steps.length > 0) context.send({ type: 'steps', steps })
      for (const step of newCheckpoints(checkpoints)) await takeCheckpoint(step)
    },
  }
}
