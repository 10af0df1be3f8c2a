/** Imports and exports since the core started, kept current by one stream. */
import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import type { ExportRequest, ImportRequest, Transfer } from '#core/shared/exchange.ts'
import { api, follow } from '#renderer/client.ts'
import { useCheckpoints } from '#renderer/features/checkpoints/store.ts'
import { told } from '#renderer/features/runs/store.ts'

export const useExchange = defineStore('exchange', () => {
  const byId = ref(new Map<string, Transfer>())
  const all = computed(() => [...byId.value.values()].sort((a, b) => b.createdAt - a.createdAt))
  let isStarted = false

  function put(transfer: Transfer): Transfer {
    byId.value.set(transfer.id, transfer)
    if (transfer.kind === 'import' && transfer.state === 'done') void useCheckpoints().load().catch(() => {})
    return transfer
  }

  async function load(): Promise<void> {
    byId.value = new Map((await told(api.exchange.list())).map((transfer) => [transfer.id, transfer]))
  }

  /** Follows transfers from the first page on that shows any. */
  function need(): void {
    if (isStarted) return
    isStarted = true
    follow((signal) => api.exchange.watch(undefined, { signal }), { start: () => load().catch(() => {}), event: put })
  }

  const startImport = async (request: ImportRequest) => put(await api.exchange.import(request))
  const startExport = async (request: ExportRequest) => put(await api.exchange.export(request))
  const stop = async (id: string) => put(await told(api.exchange.stop({ id })))
  const dismiss = (id: string) => byId.value.delete(id)

  return { all, need, startImport, startExport, stop, dismiss }
})
