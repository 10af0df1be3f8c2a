/**
 * A runner that follows a script instead of computing: real process, real IPC, real checkpoint folders with real hashes,
 * and losses that depend on seed and step only. What it does wrong (crash, hang, damage) is in `script.json` of the library.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { writeFileAtomic, writeFolderAtomic } from '#core/formats/atomic.ts'
import type { CheckpointManifest, TrainingState } from '#core/shared/checkpoints.ts'
import type { DeviceInfo, MemoryPlan } from '#core/shared/devices.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import type { FromRunner, Job, ToRunner } from '#core/shared/jobs.ts'
import type { Mix } from '#core/shared/mixes.ts'
import { afterSkips, applyChange, learningRateFactor, type RunChange } from '#core/shared/run-control.ts'
import type { RunConfig, StepRecord } from '#core/shared/runs.ts'

export type Script = {
  stepMs?: number
  /** SIGKILL itself right after sending this step. */
  dieAtStep?: number
  /** Report failure (as the engine does) at this step. */
  failAtStep?: number
  /** The error of that failure, in place of the engine's. */
  failWith?: ErrorData
  /** Write to stderr and exit 3 without a word. */
  crashAtStep?: number
  notFiniteAtStep?: number
  spikeAtStep?: number
  ignoreStop?: boolean
  /** How long a runner without a core takes to save. */
  saveMs?: number
  mixMs?: number
  tokenMs?: number
  inferCrashes?: boolean
  /** The driver of the second card crashes while it is asked. */
  listCrashes?: boolean
  measureMs?: number
  probeMs?: number
  probeFailsWith?: ErrorData
}

type TrainJob = Extract<Job, { kind: 'train' }>
let stop: 'none' | 'save' | 'discard' = 'none'
const requests: Extract<ToRunner, { type: 'generate' }>[] = []
const cancelled = new Set<string>()
const changes: RunChange[] = []

const send = (message: FromRunner): void => {
  if (process.connected) process.send!(message, undefined, undefined, () => undefined)
}
/** Ends once what was sent has left. */
const end = (message: FromRunner, code = 0): void => {
  if (process.connected) process.send!(message, undefined, undefined, () => process.exit(code))
  else process.exit(code)
}

export const fakeLoss = (seed: number, step: number): number => 5 / Math.sqrt(step) + ((seed * 7919 + step * 104729) % 1000) / 10_000

function stepRecord(config: RunConfig, step: number, script: Script): StepRecord {
  const { num_hidden_layers: layers, num_experts: experts } = config.model
  return {
    step,
    tokens: step * config.sequencesPerStep * config.sequenceLength,
    elapsedMs: step * 10,
    scalars: { loss: fakeLoss(config.seed, step) + (step === script.spikeAtStep ? 40 : 0), learningRate: 1e-3 * learningRateFactor(config.control, step), tokensPerSecond: 1000, ...(step === config.steps && { validation: 3 - config.seed / 1e5 }) },
    expertCounts: Array.from({ length: layers * experts }, (_, i) => (i % experts) + 1),
  }
}

async function saveCheckpoint(job: TrainJob, step: number, loaderPosition: number, records: StepRecord[], parentId: string | null): Promise<CheckpointManifest> {
  const id = `${job.runId}-${step}`
  const folder = join(job.paths.library, 'checkpoints', id)
  if (existsSync(folder)) return JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as CheckpointManifest
  const state: TrainingState = {
    step, tokens: step * 64, seconds: step / 100, loaderPosition, earlierSteps: 0, rng: [], config: job.config, records,
  }
  return writeFolderAtomic(folder, async (temporary) => {
    const files: CheckpointManifest['files'] = {}
    for (const [name, content] of [['model.safetensors', `weights of step ${step}`], ['state.json', JSON.stringify(state)]] as const) {
      files[name] = await writeFileAtomic(join(temporary, name), [content])
    }
    const manifest: CheckpointManifest = {
      format: 'moe-workbench-checkpoint', version: 1, id, runId: job.runId, step, tokens: step * 64, createdAt: Date.now(), codeVersion: job.codeVersion,
      mixId: job.mixId ?? 'none', mixHash: 'hash', parentId, validationLoss: null, files,
    }
    await writeFileAtomic(join(temporary, 'manifest.json'), [JSON.stringify(manifest)])
    return manifest
  })
}

async function train(job: TrainJob, script: Script): Promise<void> {
  const { resumeFrom } = job
  let { config } = job
  const resumed = resumeFrom === null ? null : (JSON.parse(readFileSync(join(job.paths.library, 'checkpoints', resumeFrom, 'state.json'), 'utf8')) as TrainingState)
  let step = resumed?.step ?? 0
  let position = resumed?.loaderPosition ?? 0
  let parentId = resumeFrom
  let records: StepRecord[] = []
  const save = async (): Promise<void> => {
    if (!process.connected) await sleep(script.saveMs ?? 0)
    const manifest = await saveCheckpoint({ ...job, config }, step, position, records, parentId)
    ;[records, parentId] = [[], manifest.id]
    send({ type: 'checkpoint', manifest })
    config.control.prompts.forEach((prompt, index) => send({ type: 'sample', index, sample: { step, prompt, text: `after ${step}` } }))
  }
  const { device: kind, precision } = config
  const [cpu, card] = fakeDevices
  const { name, driver, isSoftware } = kind === 'cpu' ? cpu : card
  send({ type: 'device', device: { kind, name, api: kind === 'cpu' ? 'none' : card.api, driver, precision, isSoftware, flopsPerSecond: job.peakFlopsPerSecond } })
  send({ type: 'log', line: { at: Date.now(), level: 'info', text: `from step ${step}` } })
  while (step < config.steps) {
    if (stop !== 'none' && script.ignoreStop !== true) {
      if (stop === 'save' && records.length > 0) await save()
      return end({ type: 'end', outcome: 'stopped' })
    }
    await sleep(script.stepMs ?? 5)
    for (const change of changes.splice(0)) {
      config = applyChange(config, change, step + 1)
      send({ type: 'changed', change, step: step + 1, config })
    }
    const record = stepRecord(config, ++step, script)
    position = afterSkips(config.control, position) + config.sequencesPerStep
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
    if (step === script.failAtStep) return end({ type: 'failed', error: script.failWith ?? { code: 'engine.outOfMemory', message: 'too big', params: { neededBytes: 1 }, hint: 'smaller' } }, 1)
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
    domains: [{ name: 'speeches', licence: 'CC0-1.0', documents: 1, bytes: 10, words: 2, trainTokens: 8, validationTokens: 2, epochs: 1 }], trainTokens: 8, validationTokens: 2, sizeBytes: 20,
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
    const { requestId, request: { maxTokens, prompt } } = request
    const given = prompt.kind === 'text' ? prompt.text : JSON.stringify(prompt)
    let made = 0
    for (; made < maxTokens! && !cancelled.has(requestId); made++) {
      await sleep(script.tokenMs ?? 1)
      const text = made === 0 ? `[${process.pid}|${given}]` : ` ${made}`
      const tokens = [{ id: made, text, written: text, logProbability: Math.log(0.5), alternatives: [], layers: [{ experts: [0, 1], weights: [0.6, 0.4] }] }]
      send({ type: 'replies', replies: [{ type: 'tokens', requestId, text, tokens }] })
    }
    send({ type: 'replies', replies: [{ type: 'generated', requestId, end: cancelled.has(requestId) ? 'stopped' : 'length', promptTokens: 1, cutTokens: 0, contextFull: false, tokens: made, tokensPerSecond: 100, firstTokenMs: 1 }] })
  }
  end({ type: 'end', outcome: 'stopped' })
}

const noFeatures = { f16: false, subgroups: null, timestamps: false, subgroupMatrix: [] }
const limits = { maxBufferBytes: 2 ** 31, maxBindingBytes: 2 ** 30, maxWorkgroupMemoryBytes: 32_768, maxWorkgroupThreads: 1024 }
const common = { vendor: '', architecture: 'none', driver: '', api: '', isSoftware: false, threads: null, memoryBytes: null, limits, measured: null }
export const fakeDevices: [DeviceInfo, DeviceInfo, DeviceInfo] = [
  { ...common, id: 'cpu', kind: 'cpu', name: 'Fake', threads: 2, memoryBytes: 8e9, features: noFeatures, limits: null },
  { ...common, id: 'vulkan:Card', kind: 'webgpu', name: 'Card', api: 'vulkan', driver: '1.0', features: { ...noFeatures, f16: true, subgroups: [32, 32] } },
  { ...common, id: 'vulkan:Soft', kind: 'webgpu', name: 'Soft', api: 'vulkan', driver: '2.0', isSoftware: true, features: noFeatures },
]

function listDevices(script: Script): void {
  send({ type: 'devices', devices: fakeDevices.slice(0, 1) })
  if (script.listCrashes === true) {
    process.stderr.write('driver: out of its depth\n')
    setTimeout(() => process.kill(process.pid, 'SIGSEGV'), 30)
    return
  }
  send({ type: 'devices', devices: fakeDevices })
  end({ type: 'end', outcome: 'done' })
}

async function measure(job: Extract<Job, { kind: 'measure' }>, script: Script): Promise<void> {
  await sleep(script.measureMs ?? 5)
  send({ type: 'kernels', key: `${job.deviceId} after ${Object.keys(job.kernels).length}`, choice: '{"gemm":"tile"}' })
  const isCpu = job.deviceId === 'cpu'
  send({ type: 'measured', measured: { flopsPerSecond: isCpu ? 1e10 : 1e12, bytesPerSecond: isCpu ? null : 1e11 } })
  end({ type: 'end', outcome: 'done' })
}

async function probe({ config, peakFlopsPerSecond }: Extract<Job, { kind: 'probe' }>, script: Script): Promise<void> {
  const memory: MemoryPlan = {
    plannedBytes: 1000, parts: { weights: 100, gradients: 100, optimizer: 200, activations: 500, program: 100 }, largestTensor: { name: 'hidden', sizeBytes: 300 },
    bindingLimitBytes: config.device === 'cpu' ? null : limits.maxBindingBytes, memoryBytes: null,
  }
  send({ type: 'memory', memory })
  send({ type: 'phase', phase: { phase: 'steps', done: 0.5, total: 1, unit: '', etaSeconds: null } })
  await sleep(script.probeMs ?? 5)
  if (script.probeFailsWith !== undefined) return end({ type: 'failed', error: script.probeFailsWith }, 1)
  const device = { kind: config.device, name: 'Fake', api: '', driver: '', precision: config.precision, isSoftware: false, flopsPerSecond: peakFlopsPerSecond }
  const one = (value: number) => ({ median: value, min: value, max: value })
  send({ type: 'probed', result: { device, memory, tokensPerSecond: one(640), stepMs: one(100), samples: 3, totalSeconds: config.steps / 10 } })
  end({ type: 'end', outcome: 'done' })
}

function start(job: Job): void {
  const file = join(job.paths.library, 'script.json')
  const script = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Script) : {}
  writeFileSync(join(job.paths.library, `pid-${job.kind}`), String(process.pid))
  if (job.kind === 'train') void train(job, script)
  else if (job.kind === 'sampleMix') void buildMix(job.vocabularySize, script)
  else if (job.kind === 'infer') void infer(script)
  else if (job.kind === 'devices') listDevices(script)
  else if (job.kind === 'measure') void measure(job, script)
  else if (job.kind === 'probe') void probe(job, script)
  else end({ type: 'failed', error: { code: 'internal', message: `nobody scripted ${job.kind}`, params: {}, hint: '' } }, 1)
}

if (process.send !== undefined && import.meta.filename === process.argv[1]) {
  process.on('disconnect', () => (stop = stop === 'none' ? 'save' : stop))
  process.on('message', (message: ToRunner) => {
    if (message.type === 'start') start(message.job)
    else if (message.type === 'stop') stop = message.save ? 'save' : 'discard'
    else if (message.type === 'generate') requests.push(message)
    else if (message.type === 'cancel') cancelled.add(message.requestId)
    else changes.push(message.change)
  })
}
