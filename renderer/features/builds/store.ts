/** Mixes in the making, kept current by one stream; what is built of them is in the store of mixes. */
import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import { mixDraftSchema, type Build, type BuildEvent, type MixDraft } from '#core/shared/builds.ts'
import { api, follow } from '#renderer/client.ts'
import { useMixes } from '#renderer/features/mixes/store.ts'
import { told } from '#renderer/features/runs/store.ts'

export const useBuilds = defineStore('builds', () => {
  const byId = ref(new Map<string, Build>())
  const loaded = ref(false)
  const all = computed(() => [...byId.value.values()].sort((a, b) => b.createdAt - a.createdAt))
  /** Builds go one at a time. */
  const active = computed(() => all.value.find(({ status }) => status === 'running') ?? null)
  const mixes = useMixes()
  let isStarted = false

  function apply(event: BuildEvent): void {
    if (event.type === 'removed') return void byId.value.delete(event.id)
    byId.value.set(event.build.id, event.build)
    if (event.build.status === 'done') mixes.load().catch(() => {})
  }

  async function load(): Promise<void> {
    const builds = await told(api.builds.list())
    byId.value = new Map(builds.map((build) => [build.id, build]))
    loaded.value = true
  }

  /** Follows the builds from now on. */
  function need(): void {
    if (isStarted) return
    isStarted = true
    follow((signal) => api.builds.watch(undefined, { signal }), { start: () => load().catch(() => {}), event: apply })
  }

  const put = (build: Build): Build => (byId.value.set(build.id, build), build)
  /** A new draft with a name of its own. */
  async function create(stem: string, settings: Partial<MixDraft> = {}): Promise<Build> {
    const taken = new Set([...all.value.map(({ draft }) => draft.name), ...mixes.all.map(({ name }) => name)])
    let name = stem
    for (let i = 2; taken.has(name); i++) name = `${stem}-${i}`
    return put(await told(api.builds.create({ draft: mixDraftSchema.parse({ ...settings, name }) })))
  }
  const update = async (id: string, draft: MixDraft) => put(await api.builds.update({ id, draft }))
  const start = async (id: string) => put(await api.builds.start({ id }))
  const stop = async (id: string) => put(await told(api.builds.stop({ id })))
  async function remove(id: string): Promise<void> {
    await told(api.builds.remove({ id }))
    byId.value.delete(id)
  }

  return { byId, all, active, loaded, need, create, update, start, stop, remove }
})
