/**
 * The life of runs: one training of this machine at a time, the others wait in the order of the queue, which outlives the core. What a cluster
 * trains is followed beside it, however many there are, and goes on there when the core closes. Starts, stops and resumes sessions; at the core's own start it ends what an earlier core left under way. The store holds every state that must
 * outlive this process; here is only who works now.
 */
import { isAdaptation } from '#core/shared/adaptation.ts'
import { AppError, type ErrorData } from '#core/shared/errors.ts'
import { applyChange, type RunChange } from '#core/shared/run-control.ts'
import type { Device, Phase, Queue, Run, RunConfig } from '#core/shared/runs.ts'
import { findMix } from '#core/store/mixes.ts'
import { findRun, insertLogLine, insertRun, runsInStatus, updateRun } from '#core/store/runs.ts'
import { readSetting, writeSetting } from '#core/store/settings.ts'
import { newestUsable, requireCheckpoint } from '../checkpoints/checkpoints.ts'
import { reconcileCheckpoints } from '../checkpoints/reconcile.ts'
import { recordIntervention } from '../runs/interventions.ts'
import { rewindRun } from '../runs/rewind.ts'
import { presentRun, publishRun, runNotFound, type Services } from '../services.ts'
import { startSession, type Session } from './session.ts'

export type Supervisor = {
  /** Adds what only exists while a run is under way. */
  withLiveFields(run: Run): Run
  phase(runId: string): Phase | null
  isActive(runId: string): boolean
  /** Whether this machine trains anything right now. */
  isBusy(): boolean
  /** Throws what `create` of this recipe would throw. */
  requireCreatable(config: RunConfig): void
  create(config: RunConfig, experiment?: { id: string; arm: string }): Run
  stop(runId: string, save: boolean): Run
  /** Goes on, on another kind of device if one is given. */
  resume(runId: string, device?: Device): Promise<Run>
  /** Ends a run under way at once and waits until it has ended; its last checkpoint stays. */
  halt(runId: string): Promise<void>
  /** Changes the recipe from the next step on, here or in the runner. */
  change(runId: string, change: RunChange): Run
  queue(): Queue
  reorderQueue(ids: readonly string[]): void
  pauseQueue(paused: boolean): void
  /** Starts the next queued run if nothing trains and the queue is not paused. */
  pump(): void
  /** Stops what trains (it saves), within a bound, and lets nothing new begin. */
  close(): Promise<void>
}

const closeBoundMs = 60_000
const pausedKey = 'runs.queuePaused'

/** Makes the supervisor of a library. Runs that an earlier core left under way become `interrupted` at once. */
export function createSupervisor(base: Omit<Services, 'supervisor'>): Supervisor {
  const { host, store, orphans } = base
  const sessions = new Map<string, Session>()
  let closed = false
  const isOnCluster = (runId: string): boolean => findRun(store, runId)?.config.cluster != null
  const localSession = (): Session | undefined => [...sessions.values()].find(({ runId }) => !isOnCluster(runId))

  const supervisor: Supervisor = {
    withLiveFields(run) {
      const session = sessions.get(run.id)
      return session === undefined ? run : { ...run, etaSeconds: session.etaSeconds(run), heartbeatAt: session.heartbeatAt() ?? run.heartbeatAt }
    },
    phase: (runId) => sessions.get(runId)?.phase() ?? null,
    isActive: (runId) => sessions.has(runId) || onCluster.has(runId),
    isBusy: () => localSession() !== undefined,

    requireCreatable: (config) => void requireMix(config),

    create(config, experiment) {
      const id = host.newId()
      const mixId = requireMix(config)
      insertRun(store, { id, config, status: 'queued', createdAt: host.now(), queuedAt: nextInQueue(), mixId, experiment: experiment ?? null })
      supervisor.pump()
      publishRun(services, id)
      return presentRun(services, id)
    },

    stop(runId, save) {
      const { status } = presentRun(services, runId)
      const session = sessions.get(runId) ?? pickUp(runId)
      if (session !== null) {
        updateRun(store, runId, { status: 'stopping' })
        session.stop(save)
      } else if (status === 'queued') {
        updateRun(store, runId, { status: 'stopped', endedAt: host.now() })
      } else {
        throw wrongState('runs.notRunning', runId, status, 'There is nothing to stop.')
      }
      publishRun(services, runId)
      return presentRun(services, runId)
    },

    async resume(runId, device) {
      if (pickUp(runId) !== null) return presentRun(services, runId)
      requireResumable(runId)
      await orphans.waitFor(runId)
      await reconcileCheckpoints(services)
      const promised = requireResumable(runId).resumableStep
      const from = await newestUsable(services, runId)
      requireResumable(runId)
      if (from === null && promised !== 0) refuseToBeginAnew(runId)
      rewindRun(services, runId, from)
      if (device !== undefined) changeDevice(runId, device)
      leftAlone.delete(runId)
      updateRun(store, runId, { status: 'queued', queuedAt: nextInQueue(), endedAt: null, error: null })
      insertLogLine(store, runId, { at: host.now(), level: 'info', text: from === null ? 'Begun anew at step 0' : `Resumed at step ${from.step}` })
      supervisor.pump()
      publishRun(services, runId)
      return presentRun(services, runId)
    },

    async halt(runId) {
      const session = sessions.get(runId) ?? pickUp(runId)
      if (session === null) return
      updateRun(store, runId, { status: 'stopping' })
      session.stop(false)
      publishRun(services, runId)
      await session.done
    },

    change(runId, change) {
      const run = presentRun(services, runId)
      if (sessions.get(runId)?.change(change)) return run
      if (supervisor.isActive(runId) && run.config.cluster !== null) {
        throw wrongState('runs.onCluster', runId, run.status, 'Stop it, change its recipe, and resume it: it goes on on the cluster from its last checkpoint.')
      }
      if (run.status === 'done') throw wrongState('runs.notChangeable', runId, run.status, 'Its recipe can be copied into a new run.')
      const step = run.step + 1
      updateRun(store, runId, { config: applyChange(run.config, change, step) })
      recordIntervention(services, runId, { step, at: host.now(), what: change })
      publishRun(services, runId)
      return presentRun(services, runId)
    },

    queue: () => ({ paused: isPaused(), runIds: runsInStatus(store, 'queued') }),

    reorderQueue(ids) {
      const queued = runsInStatus(store, 'queued')
      const order = [...ids.filter((id) => queued.includes(id)), ...queued.filter((id) => !ids.includes(id))]
      const from = nextInQueue()
      order.forEach((id, i) => updateRun(store, id, { queuedAt: from + i }))
      order.forEach((id) => publishRun(services, id))
    },

    pauseQueue(paused) {
      writeSetting(store, pausedKey, paused)
      supervisor.pump()
    },

    pump() {
      if (closed || orphans.any()) return
      // A command does what it was asked to; the workbench follows everything.
      if (host.kind !== 'cli') for (const id of onCluster) pickUp(id)
      if (isPaused()) return
      for (const id of runsInStatus(store, 'queued')) {
        if (leftAlone.has(id) || (!isOnCluster(id) && localSession() !== undefined)) continue
        begin(id)
      }
    },

    async close() {
      closed = true
      const ending = [...sessions.values()]
      for (const session of ending) {
        if (isOnCluster(session.runId) && findRun(store, session.runId)?.status === 'running') session.detach()
        else session.stop(true)
      }
      const bound = setTimeout(() => ending.forEach(({ kill }) => kill()), closeBoundMs)
      await Promise.all(ending.map(({ done }) => done))
      clearTimeout(bound)
    },
  }
  const services: Services = { ...base, supervisor }
  /** A command that works on a library for a moment does what it was asked to, not what waits there for the workbench. */
  const leftAlone = new Set(host.kind === 'cli' ? runsInStatus(store, 'queued') : [])

  /** Under way on a cluster, and not followed by this core yet. */
  const onCluster = new Set(runsInStatus(store, 'running', 'stopping').filter(isOnCluster))

  for (const id of runsInStatus(store, 'running', 'stopping')) {
    if (onCluster.has(id)) continue
    updateRun(store, id, { status: 'interrupted', error: coreDied, endedAt: findRun(store, id)!.heartbeatAt ?? host.now() })
    insertLogLine(store, id, { at: host.now(), level: 'warning', text: coreDied.message })
  }
  return supervisor

  function begin(runId: string, { picksUp = false } = {}): Session {
    const session = startSession(services, runId, { picksUp })
    sessions.set(runId, session)
    publishRun(services, runId)
    void session.done.then(() => {
      sessions.delete(runId)
      publishRun(services, runId)
      supervisor.pump()
    })
    return session
  }

  /** Follows a run that a cluster trains and nobody here watches; null for every other. */
  function pickUp(runId: string): Session | null {
    return onCluster.delete(runId) ? begin(runId, { picksUp: true }) : null
  }

  function isPaused(): boolean {
    return readSetting(store, pausedKey) === true
  }

  /** Later than all that wait, also those that were reordered a moment ago. */
  function nextInQueue(): number {
    const last = runsInStatus(store, 'queued').at(-1)
    return Math.max(host.now(), last === undefined ? 0 : findRun(store, last)!.queuedAt + 1)
  }

  /** The mix a run names, if it can be known already ("sample" may still have to be built). */
  function requireMix(config: RunConfig): string | null {
    requireStart(config)
    if (config.mix === 'sample' || isAdaptation(config.stage)) return null
    const mix = findMix(store, config.mix)
    if (mix === null) {
      throw new AppError('mixes.notFound', `mix: there is no mix ${config.mix}`, { params: { id: config.mix }, hint: 'Choose one of the mixes of this library, or "sample".' })
    }
    if (mix.vocabularySize > config.model.vocab_size) {
      throw new AppError('runs.vocabularyTooSmall', `model.vocab_size: found ${config.model.vocab_size}, expected at least ${mix.vocabularySize}, the vocabulary of mix ${mix.id}`, {
        params: { found: config.model.vocab_size, expected: mix.vocabularySize, mix: mix.id },
        hint: `Set vocab_size to ${mix.vocabularySize} or more.`,
      })
    }
    return mix.id
  }

  /** A later stage starts from a checkpoint that is there and whole. */
  function requireStart({ startFrom }: RunConfig): void {
    if (startFrom === null) return
    if (!requireCheckpoint(services, startFrom.checkpointId).valid) {
      throw new AppError('checkpoints.damaged', `Checkpoint ${startFrom.checkpointId} cannot be used`, { params: { id: startFrom.checkpointId, found: 'missing or changed files' }, hint: 'Use another checkpoint, or restore its folder from a backup.' })
    }
  }

  function requireResumable(runId: string): Run {
    const run = findRun(store, runId)
    if (run === null) throw runNotFound(runId)
    if (['stopped', 'failed', 'interrupted'].includes(run.status)) return run
    throw wrongState('runs.notResumable', runId, run.status, 'Only a run that was stopped, failed or interrupted can be resumed.')
  }

  /** A recipe says what made the numbers: it changes with the device, and the log tells from where on. */
  function changeDevice(runId: string, device: Device): void {
    const { config } = findRun(store, runId)!
    if (config.device === device) return
    updateRun(store, runId, { config: { ...config, device, precision: device === 'cpu' ? 'float32' : config.precision } })
    recordIntervention(services, runId, { step: findRun(store, runId)!.step + 1, at: host.now(), what: { kind: 'device', from: config.device, to: device } })
    const text = `Goes on on the device ${device}, before it was ${config.device}: from here on the numbers are not the same to the last bit`
    insertLogLine(store, runId, { at: host.now(), level: 'warning', text })
  }

  /** Nobody who was promised a later step is sent back to 0 unasked; from now on the run itself says that it would be 0. */
  function refuseToBeginAnew(runId: string): never {
    publishRun(services, runId)
    throw new AppError('runs.noUsableCheckpoint', `Run ${runId} has no checkpoint left that can be used: resuming would begin at step 0`, {
      params: { id: runId },
      hint: 'Restore its checkpoint folder from a backup, or resume once more to begin again at step 0.',
    })
  }
}

const coreDied: ErrorData = {
  code: 'runs.coreDied',
  message: 'The workbench ended while this run was under way',
  params: {},
  hint: 'Resume it: it goes on from its last checkpoint, with the same result as if nothing had happened.',
}

const wrongState = (code: string, id: string, status: string, hint: string): AppError => new AppError(code, `Run ${id} is ${status}`, { params: { id, status }, hint })
