/**
 * One session of a run, from its start or resume to its end: builds the sample mix when the run needs it, trains, and
 * writes down what the runner says. Watchers get one batch per 100 ms at most. However the runner ends (or dies), the
 * run is left in a state that says so.
 */
import { isAdaptation } from '#core/shared/adaptation.ts'
import { createAlertWatch, type Alert, type Finding } from '#core/shared/alerts.ts'
import { AppError, toErrorData, type ErrorData } from '#core/shared/errors.ts'
import type { FromRunner, Job } from '#core/shared/jobs.ts'
import { moeLayers } from '#core/shared/models.ts'
import type { RunChange } from '#core/shared/run-control.ts'
import type { LogLine, Phase, Run, RunEvent, StepRecord } from '#core/shared/runs.ts'
import { listCheckpoints } from '#core/store/checkpoints.ts'
import { readKernelChoices, rememberKernelChoice } from '#core/store/devices.ts'
import { insertSteps } from '#core/store/metrics.ts'
import { recordMix } from '#core/store/mixes.ts'
import { inTransaction, toStoreError } from '#core/store/open.ts'
import { insertAlert, insertSample } from '#core/store/run-records.ts'
import { findRun, insertLogLine, runNumber, updateRun } from '#core/store/runs.ts'
import { pruneCheckpoints, recordNew } from '../checkpoints/checkpoints.ts'
import { recordIntervention } from '../runs/interventions.ts'
import { rewindRun } from '../runs/rewind.ts'
import { jobPaths, publishRun, type Services } from '../services.ts'
import { createPace } from './pace.ts'
import { diedError, startJob, type ActiveJob, type JobEnd } from './start-job.ts'

export type Session = {
  readonly runId: string
  /** Where the current job is; null between jobs. */
  phase(): Phase | null
  etaSeconds(run: Run): number | null
  heartbeatAt(): number | null
  stop(save: boolean): void
  /** Leaves a run that a cluster trains to the cluster; it stays under way, to be picked up again. */
  detach(): void
  kill(): void
  /** Holds from the next step on. False when nothing trains yet that could be told. */
  change(change: RunChange): boolean
  /** Resolves when the run's last state is stored. Never rejects. */
  readonly done: Promise<void>
}

const batchMs = 100

/** Starts to work on a queued run; `picksUp`: one that a cluster trains already. */
export function startSession(services: Services, runId: string, { picksUp = false } = {}): Session {
  const { host, store, events, devices } = services
  const pace = createPace()
  const run = findRun(store, runId)!
  const number = runNumber(store, runId)!
  const { num_experts: experts, num_experts_per_tok: perToken } = run.config.model
  const watch = createAlertWatch({ layers: moeLayers(run.config.model), experts, perToken })
  let config = run.config
  let job: ActiveJob | null = null
  let isTraining = false
  let phase: Phase | null = null
  let heartbeatAt: number | null = null
  let stopRequest: 'none' | 'save' | 'discard' = 'none'
  let waiting: StepRecord[] = []
  let batchTimer: NodeJS.Timeout | undefined
  let batchAt = 0
  let pruning: Promise<void> = Promise.resolve()
  let toldNotFinite = false
  let storeFailure: ErrorData | null = null
  let isDetached = false

  const tell = (event: RunEvent): void => events.publish({ runId, event })
  const log = (level: LogLine['level'], text: string): void => {
    const line = { at: host.now(), level, text }
    insertLogLine(store, runId, line)
    tell({ type: 'log', line })
  }

  function flush(): void {
    clearTimeout(batchTimer)
    batchTimer = undefined
    batchAt = performance.now()
    if (waiting.length > 0) {
      tell({ type: 'steps', steps: waiting })
      phase = { phase: 'train', done: waiting.at(-1)!.step, total: config.steps, unit: 'step', etaSeconds: pace.secondsFor(config.steps - waiting.at(-1)!.step) }
      tell({ type: 'phase', phase })
    }
    waiting = []
    publishRun(services, runId)
  }

  function raise(finding: Finding): void {
    const alert: Alert = { ...finding, id: host.newId(), at: host.now(), dismissed: false }
    insertAlert(store, number, alert)
    tell({ type: 'alert', alert })
  }

  function onSteps(received: StepRecord[]): void {
    const steps = received.map(withoutNotFinite)
    const last = steps.at(-1)
    if (last === undefined) return
    inTransaction(store, () => {
      insertSteps(store, number, steps)
      updateRun(store, runId, { step: last.step, tokens: last.tokens, seconds: last.elapsedMs / 1000, heartbeatAt: host.now() })
    })
    for (const record of received) watch.push(record).forEach(raise)
    pace.record(last.step, performance.now())
    waiting.push(...steps)
    const due = batchAt + batchMs - performance.now()
    if (due <= 0) flush()
    else batchTimer ??= setTimeout(flush, due)
  }

  function withoutNotFinite(record: StepRecord): StepRecord {
    const bad = Object.entries(record.scalars).filter(([, value]) => !Number.isFinite(value))
    if (bad.length === 0) return record
    if (!toldNotFinite) log('warning', `Step ${record.step}: ${bad.map(([key]) => key).join(', ')} is not a finite number and is not recorded`)
    toldNotFinite = true
    return { ...record, scalars: Object.fromEntries(Object.entries(record.scalars).filter(([, value]) => Number.isFinite(value))) }
  }

  function onMessage(message: FromRunner): void {
    heartbeatAt = host.now()
    switch (message.type) {
      case 'steps':
        return onSteps(message.steps)
      case 'phase':
        phase = message.phase
        return tell({ type: 'phase', phase })
      case 'log':
        insertLogLine(store, runId, message.line)
        return tell({ type: 'log', line: message.line })
      case 'mix':
        recordMix(store, message.mix)
        updateRun(store, runId, { mixId: message.mix.id })
        return publishRun(services, runId)
      case 'device':
        updateRun(store, runId, { runningOn: message.device })
        return publishRun(services, runId)
      case 'kernels':
        return rememberKernelChoice(store, message.key, message.choice)
      case 'recipe':
        config = message.config
        updateRun(store, runId, { config })
        return publishRun(services, runId)
      case 'changed':
        config = message.config
        updateRun(store, runId, { config })
        recordIntervention(services, runId, { step: message.step, at: host.now(), what: message.change })
        return publishRun(services, runId)
      case 'sample':
        insertSample(store, number, message.index, message.sample)
        return tell({ type: 'sample', sample: message.sample })
      case 'checkpoint':
        recordNew(services, message.manifest)
        pruning = pruning.then(() => pruneCheckpoints(services, runId, config.keepCheckpoints)).catch((error: unknown) => {
          log('warning', `Old checkpoints were not removed: ${toErrorData(error).message}`)
        })
        tell({ type: 'checkpoint', checkpointId: message.manifest.id })
        return publishRun(services, runId)
    }
  }

  /** A store that cannot be written (a full disk) ends the run, not the core. */
  function receive(message: FromRunner): void {
    if (storeFailure !== null) return
    try {
      onMessage(message)
    } catch (error) {
      storeFailure = toErrorData(toStoreError(error))
      host.log('error', `run ${runId}: ${message.type} was not stored: ${error instanceof Error ? error.stack : String(error)}`)
      job?.stop(true)
    }
  }

  async function perform(next: Job): Promise<JobEnd> {
    if (stopRequest !== 'none') return { outcome: 'stopped' }
    job = startJob(services, next, { runId, onMessage: receive })
    isTraining = next.kind === 'train'
    const end = await job.ended
    isTraining = false
    job = null
    phase = null
    return end
  }

  async function work(): Promise<JobEnd> {
    const paths = jobPaths(host)
    const isAdapted = isAdaptation(run.config.stage)
    if (run.mixId === null && !isAdapted) {
      const end = await perform({ kind: 'sampleMix', paths, vocabularySize: run.config.model.vocab_size })
      if (end.outcome !== 'done') return end
    }
    const mixId = findRun(store, runId)!.mixId
    if (mixId === null && !isAdapted) throw new Error('the sample mix was built but never announced')
    const from = listCheckpoints(store, runId).find((checkpoint) => checkpoint.valid) ?? null
    if (!picksUp) rewindRun(services, runId, from)
    if (run.config.cluster !== null) {
      const { step, tokens, seconds } = findRun(store, runId)!
      return perform({ kind: 'cluster', paths, runId, mixId: mixId!, config: run.config, begin: !picksUp, from: from?.id ?? null, stands: { step, tokens, seconds }, codeVersion: host.version })
    }
    devices.makeRoom()
    const peakFlopsPerSecond = await devices.peak(run.config)
    return perform({ kind: 'train', paths, runId, mixId, config: run.config, resumeFrom: from?.id ?? null, codeVersion: host.version, peakFlopsPerSecond, kernels: readKernelChoices(store) })
  }

  async function finish(): Promise<void> {
    let end: JobEnd
    try {
      end = await work()
    } catch (error) {
      if (!(error instanceof AppError)) host.log('error', `run ${runId}: ${error instanceof Error ? error.stack : String(error)}`)
      end = { outcome: 'failed', error: toErrorData(error) }
    }
    try {
      await pruning
      settle(storeFailure === null ? end : { outcome: 'failed', error: storeFailure })
    } catch (error) {
      // The next start finds the run as it is in the store and shows it as interrupted.
      host.log('error', `run ${runId}: its end was not stored: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }

  function settle(end: JobEnd): void {
    flush()
    if (isDetached && end.outcome === 'stopped') return
    if (end.outcome === 'died') for (const line of end.stderr) log('error', line)
    const { status, error } = pausedOr(verdict(end, stopRequest))
    updateRun(store, runId, { status, error, endedAt: host.now() })
    if (error === null) log('info', status === 'done' ? 'Done' : `Stopped at step ${findRun(store, runId)!.step}`)
    else log('error', error.message)
  }

  /** A value that is not finite is an alert; a recipe may say that it stops the run without failing it. */
  function pausedOr(found: Verdict): Verdict {
    if (found.error?.code !== 'train.notFinite') return found
    const { step, field } = found.error.params
    raise({ kind: 'notFinite', step: Number(step), field: String(field), value: null, expected: null, layer: null, experts: [] })
    if (!config.control.pauseOnNotFinite) return found
    log('warning', `${found.error.message}: paused as the recipe asks; the checkpoints before it are kept`)
    return { status: 'stopped', error: null }
  }

  updateRun(store, runId, { status: 'running', startedAt: run.startedAt ?? host.now(), endedAt: null, error: null, heartbeatAt: host.now() })
  return {
    runId,
    phase: () => phase,
    etaSeconds: ({ step }) => pace.secondsFor(config.steps - step),
    heartbeatAt: () => heartbeatAt,
    stop(save) {
      stopRequest = save ? 'save' : 'discard'
      job?.stop(save)
    },
    detach() {
      isDetached = true
      stopRequest = 'save'
      job?.detach()
    },
    kill: () => job?.kill(),
    change(change) {
      if (!isTraining) return false
      job!.send({ type: 'change', change })
      return true
    },
    done: finish(),
  }
}

type Verdict = { status: 'done' | 'stopped' | 'failed' | 'interrupted'; error: ErrorData | null }

/** What a run becomes when its session ends like this. */
function verdict(end: JobEnd, stopRequest: 'none' | 'save' | 'discard'): Verdict {
  switch (end.outcome) {
    case 'done':
    case 'stopped':
      return { status: end.outcome, error: null }
    case 'failed':
      return { status: 'failed', error: end.error }
    case 'died':
      return stopRequest === 'discard' ? { status: 'stopped', error: null } : { status: 'interrupted', error: diedError(end) }
  }
}
