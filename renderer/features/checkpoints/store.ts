/** Checkpoints of the library, loaded when a page shows them. */
import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import type { Checkpoint } from '#core/shared/checkpoints.ts'
import { told } from '#renderer/features/runs/store.ts'
import { api } from '#renderer/client.ts'

export const useCheckpoints = defineStore('checkpoints', () => {
  const all = ref<Checkpoint[]>([])
  const loaded = ref(false)
  const newest = computed(() => [...all.value].sort((a, b) => b.createdAt - a.createdAt))
  const of = (runId: string) => newest.value.filter((checkpoint) => checkpoint.runId === runId)

  async function load(): Promise<void> {
    all.value = await told(api.checkpoints.list({ runId: null }))
    loaded.value = true
  }

  async function verify(id: string): Promise<Checkpoint> {
    const found = await told(api.checkpoints.verify({ id }))
    all.value = all.value.map((checkpoint) => (checkpoint.id === id ? found : checkpoint))
    return found
  }

  async function remove(id: string): Promise<number> {
    const { freedBytes } = await told(api.checkpoints.remove({ id }))
    all.value = all.value.filter((checkpoint) => checkpoint.id !== id)
    return freedBytes
  }

  return { all, newest, loaded, of, load, verify, remove }
})
