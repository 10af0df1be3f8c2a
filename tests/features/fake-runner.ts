/**
 * A runner that follows a script instead of computing: real process, real IPC, real checkpoint folders with real hashes,
 * and losses that depend on seed and step only. What it does wrong (crash, hang, damage) is in `script.json` of the library.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { writeFileAtomic, writeFolderAtomic } from '#core/formats/atomic.ts'
import type { CheckpointManifest, TrainingState } from '#core/shared/checkpoints.ts'
import type { FromRunner, Job, ToRunner } from '#core/shared/jobs.ts'
import type { Mix } from '#core/shared/mixes.ts'
import type { StepRecord } from '#core/shared/runs.ts'

export type Script = {
  stepMs?: number
  /** SIGKILL itself right after sending this step. */
  dieAtStep?: number
  /** Report failure (as the engine does) at this step. */
  failAtStep?: number
  /** Write to stderr and exit 3 without a word. */
  crashAtStep?: number
  notFiniteAtStep?: number
  ignoreStop?: boolean
  /** How long a runner without a core takes to save. */
  saveMs?: number
  mixMs?: number
  tokenMs?: number
  inferCrashes?: boolean
}

type TrainJob = Extract<Job, { kind: 'train' }>
let stop: 'none' | 'save' | 'discard' = 'none'
const requests: Extract<ToRunner, { type: 'generate' }>[] = []
const cancelled = new Set<string>()

const send = (message: FromRunner): void => {
  if (process.connected) process.send!(message, undefined, undefined, () => undefined)
}
/** Ends once what was sent has left. */
const end = (message: FromRunner, code = 0): void => {
  if (process.connected) process.send!(message, undefined, undefined, () => process.exit(code))
  else process.exit(code)
}

export const fakeLoss = (seed: number, step: number): number => 5 / Math.sqrt(step) + ((seed * 7919 + step * 104729) % 1000) / 10_000

function stepRecord({ config }: TrainJob, step: number): StepRecord {
  const { num_hidden_layers: layers, num_experts: experts } = config.model
  return {
    step,
    tokens: step * config.sequencesPerStep * config.sequenceLength,
    elapsedMs: step * 10,
    scalars: { loss: fakeLoss(config.seed, step), learningRate: 1e-3, tokensPerSecond: 1000 },
    expertCounts: Array.from({ length: layers * experts }, (_, i) => (i % experts) + 1),
  }
}

async function saveCheckpoint(job: TrainJob, step: number, records: StepRecord[], parentId: string | null): Promise<CheckpointManifest> {
  const id = `${job.runId}-${step}`
  const folder = join(job.paths.library, 'checkpoints', id)
  if (existsSync(folder)) return JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as CheckpointManifest
  const state: TrainingState = {
    step, tokens: step * 64, seconds: step / 100, loaderPosition: step * job.config.sequencesPerStep, rng: [], config: job.config, records,
  }
  return writeFolderAtomic(folder, async (temporary) => {
    const files: CheckpointManifest['files'] = {}
    for (const [name, content] of [['model.safetensors', `weights of step ${step}`], ['state.json', JSON.stringify(state)]] as const) {
      files[name] = await writeFileAtomic(join(temporary, name), [content])
    }
    const manifest: CheckpointManifest = {
      format: 'moe-workbench-checkpoint', version: 1, id, runId: job.runId, step, tokens: step * 64, createdAt: Date.now(), codeVersion: job.codeVersion,
      mixId: job.mixId, mixHash: 'hash', parentId, validationLoss: null, files,
    }
    await writeFileAtomic(join(temporary, 'manifest.json'), [JSON.stringify(manifest)])
    return manifest
  })
}

async function train(job: TrainJob, script: Script): Promise<void> {
  const { config, resumeFrom } = job
  const resumed = resumeFrom === null ? null : (JSON.parse(readFileSync(join(job.paths.library, 'checkpoints', resumeFrom, 'state.json'), 'utf8')) as TrainingState)
  let step = resumed?.step ?? 0
  let parentId = resumeFrom
  let records: StepRecord[] = []
  const save = async (): Promise<void> => {
    if (!process.connected) await sleep(script.saveMs ?? 0)
    const manifest = await saveCheckpoint(job, step, records, parentId)
    ;[records, parentId] = [[], manifest.id]
    send({ type: 'checkpoint', manifest })
  }
  send({ type: 'log', line: { at: Date.now(), level: 'info', text: `from step ${step}` } })
  while (step < config.steps) {
    if (stop !== 'none' && script.ignoreStop !== true) {
      if (stop === 'save' && records.length > 0) await save()
      return end({ type: 'end', outcome: 'stopped' })
    }
    await sleep(script.stepMs ?? 5)
    const record = stepRecord(job, ++step)
    records.push(record)
    send({ type: 'steps', steps: [step === script.notFiniteAtStep ? { ...record, scalars: { ...record.scalars, loss: NaN } } : record] })
    if (step === script.dieAtStep) {
      await sleep(30)
      process.kill(process.pid, 'SIGKILL')
    }
    if (step === script.crashAtStep) {
      process.stderr.write('bad things\nhappened here\n')
      process.exit(3)
    }
    if (step === script.failAtStep) return end({ type: 'failed', error: { code: 'engine.outOfMemory', message: 'too big', params: { neededBytes: 1 }, hint: 'smaller' } }, 1)
    if (config.checkpointEverySteps > 0 && step % config.checkpointEverySteps === 0) await save()
  }
  if (records.length > 0) await save()
  end({ type: 'end', outcome: 'done' })
}

async function buildMix(vocabularySize: number, script: Script): Promise<void> {
  for (const phase of ['sample', 'tokenizer', 'mix']) {
    for (const done of [0, 1]) {
      if (stop !== 'none') return end({ type: 'end', outcome: 'stopped' })
      send({ type: 'phase', phase: { phase, done, total: 2, unit: 'file', etaSeconds: done === 0 ? null : 1 } })
      await sleep(script.mixMs ?? 5)
    }
  }
  const mix: Mix = {
    id: 'sample-mix', name: 'Sample', hash: 'hash', createdAt: Date.now(), vocabularySize, tokenizerHash: 't',
    domains: [{ name: 'speeches', licence: 'CC0-1.0', documents: 1, bytes: 10, trainTokens: 8, validationTokens: 2 }], trainTokens: 8, validationTokens: 2, sizeBytes: 20,
  }
  send({ type: 'mix', mix })
  end({ type: 'end', outcome: 'done' })
}

async function infer(script: Script): Promise<void> {
  send({ type: 'ready' })
  while (stop === 'none') {
    const request = requests.shift()
    if (request === undefined) {
      await sleep(5)
      continue
    }
    if (script.inferCrashes === true) process.exit(9)
    const { requestId, sampling, prompt } = request
    let made = 0
    for (; made < sampling.maxTokens && !cancelled.has(requestId); made++) {
      await sleep(script.tokenMs ?? 1)
      const text = made === 0 ? `[${process.pid}|${prompt}]` : ` ${made}`
      send({ type: 'tokens', requestId, tokens: [{ id: made, text, probability: 0.5, layers: [{ experts: [0, 1], weights: [0.6, 0.4] }] }] })
    }
    send({ type: 'generated', requestId, end: cancelled.has(requestId) ? 'stopped' : 'length', tokensPerSecond: 100, firstTokenMs: 1 })
  }
  end({ type: 'end', outcome: 'stopped' })
}

function start(job: Job): void {
  const file = join(job.paths.library, 'script.json')
  const script = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Script) : {}
  writeFileSync(join(job.paths.library, `pid-${job.kind}`), String(process.pid))
  if (job.kind === 'train') void train(job, script)
  else if (job.kind === 'sampleMix') void buildMix(job.vocabularySize, script)
  else if (job.kind === 'infer') void infer(script)
  else {
    send({ type: 'probe', cpu: { name: 'Fake', cores: 2, isa: 'none' }, peakFlopsPerSecond: 1e10 })
    end({ type: 'end', outcome: 'done' })
  }
}

if (process.send !== undefined && import.meta.filename === process.argv[1]) {
  process.on('disconnect', () => (stop = stop === 'none' ? 'save' : stop))
  process.on('message', (message: ToRunner) => {
    if (message.type === 'start') start(message.job)
    else if (message.type === 'stop') stop = message.save ? 'save' : 'discard'
    else if (message.type === 'generate') requests.push(message)
    else cancelled.add(message.requestId)
  })
}
