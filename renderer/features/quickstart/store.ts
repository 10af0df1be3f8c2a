/** The quick start's state as the core has it; nothing of it lives in the page, so that a reload changes nothing. */
import { defineStore } from 'pinia'
import { ref } from 'vue'
import type { QuickstartState } from '#core/shared/quickstart.ts'
import { told } from '#renderer/features/runs/store.ts'
import { api, follow } from '#renderer/client.ts'

export const useQuickstart = defineStore('quickstart', () => {
  const state = ref<QuickstartState | null>(null)
  const busy = ref(false)

  function start(): void {
    follow((signal) => api.quickstart.watch(undefined, { signal }), {
      start: async () => (state.value = await api.quickstart.state().catch(() => state.value)),
      event: (next) => (state.value = next),
    })
  }

  async function act(call: () => Promise<QuickstartState>): Promise<void> {
    busy.value = true
    try {
      state.value = await told(call())
    } catch {
      // told() has shown it
    } finally {
      busy.value = false
    }
  }

  const begin = () => act(() => api.quickstart.start())
  const stop = () => act(() => api.quickstart.stop())

  return { state, busy, start, begin, stop }
})
