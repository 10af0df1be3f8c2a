/** The mixes that are built, loaded when a page first needs them and whenever one is finished. */
import { defineStore } from 'pinia'
import { ref, watch } from 'vue'
import type { Mix } from '#core/shared/mixes.ts'
import { api, connection } from '#renderer/client.ts'
import { told } from '#renderer/features/runs/store.ts'

export const useMixes = defineStore('mixes', () => {
  const all = ref<Mix[]>([])
  const loaded = ref(false)
  const find = (id: string): Mix | undefined => all.value.find((mix) => mix.id === id)

  async function load(): Promise<void> {
    all.value = await told(api.mixes.list())
    loaded.value = true
  }

  /** Loads the list whenever the page is connected. Called by whatever shows mixes. */
  function need(): void {
    watch(() => connection.state, (state) => state === 'open' && load().catch(() => {}), { immediate: true })
  }

  async function remove(id: string): Promise<number> {
    const { freedBytes } = await told(api.mixes.remove({ id }))
    all.value = all.value.filter((mix) => mix.id !== id)
    return freedBytes
  }

  return { all, loaded, find, load, need, remove }
})
