/** What the library knows of a run, as files of a bundle, and back: recipe, every number, log, lineage, data manifest, model card. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { readMixManifest, type MixManifest } from '#core/data/mix-manifest.ts'
import { readBundle, readRecord } from '#core/formats/bundle.ts'
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import { relativesOf } from '#core/shared/lineage.ts'
import { logLineSchema, type Run, type Series, type StepRecord } from '#core/shared/runs.ts'
import { findCheckpoint } from '#core/store/checkpoints.ts'
import { insertSteps, readExpertCounts, readSeries, secondsKey, seriesKeys } from '#core/store/metrics.ts'
import { inTransaction, type WritableStore } from '#core/store/open.ts'
import { listAlerts, listInterventions, listSamples } from '#core/store/run-records.ts'
import { insertLogLine, readLog, runNumber, updateRun } from '#core/store/runs.ts'
import { readManifest } from '../checkpoints/files.ts'
import { wholeLineage } from '../lineage/lineage.ts'
import { checkpointsFolder, type Services } from '../services.ts'
import { modelCard } from './model-card.ts'

type Context = Pick<Services, 'host' | 'store'>
const everything = { maxPoints: Number.MAX_SAFE_INTEGER }

function mixOf({ host }: Context, run: Run): MixManifest | null {
  const folder = join(host.libraryPath, 'mixes', run.mixId ?? '')
  return run.mixId !== null && existsSync(join(folder, 'manifest.json')) ? readMixManifest(folder) : null
}

/** Where an imported checkpoint came from; null for one that was trained. */
function originOf({ host }: Context, { id }: Checkpoint): string | null {
  const manifest = readManifest(join(checkpointsFolder(host), id), id)
  return 'problem' in manifest ? null : (manifest.origin?.from ?? null)
}

/** Writes the records of `run` into `folder`, the model card among them. */
export function writeRecords(context: Context, run: Run, checkpoints: Checkpoint[], folder: string): void {
  const { host, store } = context
  const number = runNumber(store, run.id)!
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const json = (name: string, value: unknown): void => writeFileSync(join(folder, name), `${JSON.stringify(value, null, 2)}\n`)
  const lines = (name: string, values: readonly unknown[]): void => writeFileSync(join(folder, name), values.map((value) => `${JSON.stringify(value)}\n`).join(''))
  const series: Series[] = seriesKeys(store, number).map((key) => readSeries(store, number, key, everything))
  writeFileSync(join(folder, 'metrics.csv'), `step,key,value\n${series.map(({ key, steps, values }) => steps.map((step, i) => `${step},${key},${values[i]}\n`).join('')).join('')}`)
  lines('experts.jsonl', readExpertCounts(store, number, everything.maxPoints).map(({ step, counts }) => ({ step, counts: [...counts] })))
  lines('log.jsonl', readLog(store, number))
  json('run.json', { ...run, records: { alerts: listAlerts(store, number), interventions: listInterventions(store, number), samples: listSamples(store, number) } })
  json('lineage.json', relativesOf(wholeLineage(store), `run:${run.id}`))
  const mix = mixOf(context, run)
  if (mix !== null) json('mix.json', mix)
  const start = run.config.startFrom?.checkpointId ?? null
  const parents = start === null ? [] : [{ id: start, run: findCheckpoint(store, start)?.runName ?? 'a run that was removed' }]
  writeFileSync(join(folder, 'README.md'), modelCard({ run, checkpoints, mix, series, parents, codeVersion: host.version, origin: originOf(context, checkpoints[0]!) }))
}

const countsSchema = z.object({ step: z.int(), counts: z.array(z.number()) })
const notesSchema = z.object({ name: z.string().optional(), note: z.string().optional(), tags: z.array(z.string()).optional() })
const parseLines = (text: string | null): unknown[] => (text ?? '').split('\n').filter(Boolean).map((line) => JSON.parse(line) as unknown)

/** The step records that metrics.csv and experts.jsonl hold. */
function stepsOf(path: string): StepRecord[] {
  const steps = new Map<number, StepRecord>()
  const at = (step: number): StepRecord => {
    const found = steps.get(step) ?? { step, tokens: 0, elapsedMs: 0, scalars: {}, expertCounts: null }
    steps.set(step, found)
    return found
  }
  for (const line of (readRecord(path, 'metrics.csv') ?? '').split('\n').slice(1)) {
    const [step, key, value] = line.split(',')
    if (value === undefined || !Number.isFinite(Number(value)) || !Number.isInteger(Number(step))) continue
    if (key === secondsKey) at(Number(step)).elapsedMs = Number(value) * 1000
    else at(Number(step)).scalars[key!] = Number(value)
  }
  for (const line of parseLines(readRecord(path, 'experts.jsonl'))) {
    const { step, counts } = countsSchema.parse(line)
    at(step).expertCounts = counts
  }
  return [...steps.values()].sort((a, b) => a.step - b.step)
}

/** Takes over the numbers, the log and the notes of a verified bundle, for the run that its checkpoints have made. */
export function readRecords({ store }: { store: WritableStore }, path: string): void {
  const { runId } = readBundle(path)
  const number = runNumber(store, runId)
  if (number === null) return
  inTransaction(store, () => {
    insertSteps(store, number, stepsOf(path))
    for (const line of parseLines(readRecord(path, 'log.jsonl'))) insertLogLine(store, runId, logLineSchema.parse(line))
    updateRun(store, runId, notesSchema.parse(JSON.parse(readRecord(path, 'run.json') ?? '{}')))
  })
}
