/**
 * One run in full while somebody looks at it: its series, expert load, log and phase, loaded once and then followed.
 * Every component that shows a run acquires it and releases it; the first opens the stream and the last closes it.
 * Series are plain arrays (thousands of points); `version` is what changes, at most once per frame.
 */
import { defineStore } from 'pinia'
import { markRaw, onScopeDispose, reactive, shallowRef, toValue, watch, type MaybeRefOrGetter, type ShallowRef } from 'vue'
import type { Alert } from '#core/shared/alerts.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import { moeLayers } from '#core/shared/models.ts'
import type { Intervention, Sample } from '#core/shared/run-control.ts'
import type { LogLine, Phase, Run, RunEvent } from '#core/shared/runs.ts'
import { api, errorData, follow } from '#renderer/client.ts'
import { frameOfCounts, framesOfShares, type LoadFrames } from './expert-load.ts'
import { appendSteps, rewind, type SeriesMap } from './series.ts'
import { useRuns } from './store.ts'

const maxFrames = 400
const maxLogLines = 5000
/** Points of a series that are asked for, and that it may grow to before it is asked for again. */
const askedPoints = 3000
const maxPoints = 9000

export type LiveRun = {
  id: string
  run: Run | null
  phase: Phase | null
  failure: ErrorData | null
  loaded: boolean
  /** Counts every change of series, load and log. */
  version: number
  /** Counts checkpoints written or removed since it was opened. */
  checkpointVersion: number
  /** Counts changes of alerts, interventions and samples. */
  recordVersion: number
  readonly data: { series: SeriesMap; load: LoadFrames | null; log: LogLine[]; alerts: Alert[]; interventions: Intervention[]; samples: Sample[] }
}

export const useLiveRuns = defineStore('liveRuns', () => {
  const open = new Map<string, { live: LiveRun; users: number; stop: () => void }>()

  function acquire(id: string): LiveRun {
    const known = open.get(id)
    if (known) {
      known.users++
      return known.live
    }
    const live = newLiveRun(id)
    open.set(id, { live, users: 1, stop: followRun(live) })
    return live
  }

  function release(id: string): void {
    const known = open.get(id)
    if (!known || --known.users > 0) return
    known.stop()
    open.delete(id)
  }

  return { acquire, release }
})

/** Marks alerts as dismissed, once the core has them so. */
export function markDismissed(live: LiveRun, ids: ReadonlySet<string>): void {
  live.data.alerts = live.data.alerts.map((alert) => (ids.has(alert.id) ? { ...alert, dismissed: true } : alert))
  live.recordVersion++
}

/** The live run of a changing id, while the calling component lives; null while there is no id. */
export function useLiveRun(id: MaybeRefOrGetter<string | null>): ShallowRef<LiveRun | null> {
  const store = useLiveRuns()
  const live = shallowRef<LiveRun | null>(null)
  const release = () => live.value && store.release(live.value.id)
  watch(
    () => toValue(id),
    (next) => {
      const before = live.value
      live.value = next ? store.acquire(next) : null
      if (before) store.release(before.id)
    },
    { immediate: true },
  )
  onScopeDispose(release)
  return live
}

function newLiveRun(id: string): LiveRun {
  return reactive({
    id,
    run: useRuns().byId.get(id) ?? null,
    phase: null,
    failure: null,
    loaded: false,
    version: 0,
    checkpointVersion: 0,
    recordVersion: 0,
    // Raw: nothing may observe thousands of numbers one by one.
    data: markRaw({ series: new Map(), load: null, log: [], alerts: [], interventions: [], samples: [] }),
  })
}

function followRun(live: LiveRun): () => void {
  let early: RunEvent[] | null = []
  let frame = 0
  const changed = () => {
    if (frame) return
    frame = requestAnimationFrame(() => {
      frame = 0
      live.version++
    })
  }
  const take = (event: RunEvent) => {
    if (apply(live, event)) changed()
    if ((live.data.series.get('loss')?.steps.length ?? 0) > maxPoints) void load()
  }
  // Events that come while the past is loading wait for it.
  async function load(): Promise<void> {
    early ??= []
    try {
      await loadPast(live)
    } catch (error) {
      live.failure = errorData(error)
    }
    const waiting = early
    early = null
    for (const event of waiting ?? []) take(event)
    live.loaded = true
    live.version++
  }
  const stop = follow((signal) => api.runs.watch({ id: live.id }, { signal }), {
    start: () => void load(),
    event: (event) => (early && event.type !== 'run' ? early.push(event) : take(event)),
    failed: (error) => (live.failure = error),
  })
  return () => {
    stop()
    cancelAnimationFrame(frame)
  }
}

async function loadPast(live: LiveRun): Promise<void> {
  const [series, load, log, alerts, interventions, samples] = await Promise.all([
    api.runs.metrics({ id: live.id, keys: null, maxPoints: askedPoints }),
    api.runs.expertLoad({ id: live.id }),
    api.runs.log({ id: live.id }),
    api.runs.alerts({ id: live.id }),
    api.runs.interventions({ id: live.id }),
    api.runs.samples({ id: live.id }),
  ])
  const shares = new Float32Array(await load.values.arrayBuffer())
  live.data.series = new Map(series.map((one) => [one.key, one]))
  live.data.load = load.layers * load.experts === 0 ? null : framesOfShares([...load.steps], load.layers, load.experts, shares)
  live.data.log = [...log]
  Object.assign(live.data, { alerts: [...alerts], interventions: [...interventions], samples: [...samples] })
  live.recordVersion++
  live.failure = null
}

/** Applies one event; true when series, load or log changed. */
function apply(live: LiveRun, event: RunEvent): boolean {
  switch (event.type) {
    case 'run':
      live.run = event.run
      if (event.run.status !== 'running' && event.run.status !== 'queued') live.phase = null
      return false
    case 'phase':
      live.phase = event.phase
      return false
    case 'checkpoint':
      live.checkpointVersion++
      return false
    case 'alert':
      live.data.alerts.unshift(event.alert)
      live.recordVersion++
      return false
    case 'intervention':
      live.data.interventions.push(event.intervention)
      live.recordVersion++
      return false
    case 'sample':
      live.data.samples = [event.sample, ...live.data.samples.filter(({ step, prompt }) => step !== event.sample.step || prompt !== event.sample.prompt)]
      live.recordVersion++
      return false
    case 'removed':
      live.failure = { code: 'runs.notFound', message: 'The run was removed.', params: { id: event.runId }, hint: '' }
      return false
    case 'steps':
      live.phase = null
      appendSteps(live.data.series, event.steps)
      for (const { step, expertCounts } of event.steps) if (expertCounts) appendFrame(live, step, expertCounts)
      return true
    case 'rewind':
      rewind(live.data.series, event.step)
      rewindFrames(live.data.load, event.step)
      live.data.alerts = live.data.alerts.filter(({ step }) => step <= event.step)
      live.data.samples = live.data.samples.filter(({ step }) => step <= event.step)
      live.recordVersion++
      return true
    case 'log':
      live.data.log.push(event.line)
      if (live.data.log.length > maxLogLines) live.data.log.splice(0, live.data.log.length - maxLogLines)
      return true
  }
}

function appendFrame(live: LiveRun, step: number, counts: number[]): void {
  const model = live.run?.config.model
  if (!model) return
  const load = (live.data.load ??= { layers: moeLayers(model).length, experts: model.num_experts, steps: [], frames: [] })
  if (step <= (load.steps.at(-1) ?? -1) || counts.length !== load.layers * load.experts) return
  load.steps.push(step)
  load.frames.push(frameOfCounts(counts, load.experts))
  if (load.steps.length > maxFrames) {
    // Every second frame of the past goes; the newest stays.
    const keep = (_: unknown, i: number) => i % 2 === (load.steps.length - 1) % 2
    const frames = load.frames.filter(keep)
    const steps = load.steps.filter(keep)
    load.frames = frames
    load.steps = steps
  }
}

function rewindFrames(load: LoadFrames | null, step: number): void {
  while (load && load.steps.length > 0 && load.steps.at(-1)! > step) {
    load.steps.pop()
    load.frames.pop()
  }
}
