/** All runs, kept current by one stream; actions on runs. Failures of actions are told by a toast and thrown on. */
import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import type { RunChange } from '#core/shared/run-control.ts'
import type { Device, Run, RunConfig, RunEvent } from '#core/shared/runs.ts'
import { api, errorData, follow } from '#renderer/client.ts'
import { notifyError } from '#renderer/shell/notify.ts'

export const useRuns = defineStore('runs', () => {
  const byId = ref(new Map<string, Run>())
  const loaded = ref(false)
  const all = computed(() => [...byId.value.values()].sort((a, b) => b.createdAt - a.createdAt))
  /** The run that a runner is working on. */
  const active = computed(() => all.value.find(({ status }) => status === 'running' || status === 'stopping') ?? null)

  function apply(event: RunEvent): void {
    if (event.type === 'run') byId.value.set(event.run.id, event.run)
    if (event.type === 'removed') byId.value.delete(event.runId)
  }

  async function load(): Promise<void> {
    const runs = await told(api.runs.list())
    byId.value = new Map(runs.map((run) => [run.id, run]))
    loaded.value = true
  }

  function start(): void {
    follow((signal) => api.runs.watchAll(undefined, { signal }), { start: () => load().catch(() => {}), event: apply })
  }

  const put = (run: Run): Run => (byId.value.set(run.id, run), run)
  const create = async (config: RunConfig) => put(await api.runs.create({ config }))
  const stop = async (id: string, save: boolean) => put(await told(api.runs.stop({ id, save })))
  const resume = async (id: string, device?: Device) => put(await told(api.runs.resume({ id, device })))
  const rename = async (id: string, name: string) => put(await told(api.runs.rename({ id, name })))
  const change = async (id: string, wanted: RunChange) => put(await told(api.runs.change({ id, change: wanted })))
  const rollBack = async (id: string, checkpointId: string | null, skip: { step: number; steps: number } | null) => put(await told(api.runs.rollBack({ id, checkpointId, skip })))
  const dismissAlerts = async (id: string, alertIds: string[]) => put(await told(api.runs.dismissAlerts({ id, alertIds })))
  const annotate = async (id: string, notes: { note?: string; tags?: string[]; archived?: boolean }) => put(await told(api.runs.annotate({ id, ...notes })))
  async function remove(id: string, checkpoints: boolean): Promise<number> {
    const { freedBytes } = await told(api.runs.remove({ id, checkpoints }))
    byId.value.delete(id)
    return freedBytes
  }

  return { byId, all, active, loaded, start, create, stop, resume, rename, change, rollBack, dismissAlerts, annotate, remove }
})

/** The result of a call; a failure is shown before it goes on. */
export async function told<T>(call: Promise<T>): Promise<T> {
  try {
    return await call
  } catch (error) {
    notifyError(errorData(error))
    throw error
  }
}
