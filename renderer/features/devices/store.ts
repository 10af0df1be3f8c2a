/** The devices of the machine, loaded when a page first needs them; measuring one, with what goes wrong told beside it. */
import { defineStore } from 'pinia'
import { computed, reactive, ref, watch } from 'vue'
import type { DeviceInfo, DeviceList } from '#core/shared/devices.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import { api, connection, errorData } from '#renderer/client.ts'

export const useDevices = defineStore('devices', () => {
  const list = ref<DeviceList | null>(null)
  const failure = ref<ErrorData | null>(null)
  const loading = ref(false)
  const measuring = reactive(new Set<string>())
  const failures = reactive(new Map<string, ErrorData>())
  const all = computed(() => list.value?.devices ?? [])
  const find = (id: string): DeviceInfo | undefined => all.value.find((device) => device.id === id)

  async function load(refresh = false): Promise<void> {
    loading.value = true
    try {
      list.value = await api.devices.list({ refresh })
      failure.value = null
    } catch (error) {
      failure.value = errorData(error)
    } finally {
      loading.value = false
    }
  }

  /** Loads the list when the page is connected, if there is none yet. Called by whatever shows devices. */
  function need(): void {
    watch(
      () => connection.state,
      (state) => {
        if (state === 'open' && !loading.value) void load()
      },
      { immediate: true },
    )
  }

  async function measure(id: string): Promise<void> {
    measuring.add(id)
    failures.delete(id)
    try {
      const measured = await api.devices.measure({ id })
      if (list.value) list.value = { ...list.value, devices: all.value.map((device) => (device.id === id ? measured : device)) }
    } catch (error) {
      failures.set(id, errorData(error))
    } finally {
      measuring.delete(id)
    }
  }

  return { list, all, find, failure, loading, measuring, failures, load, need, measure }
})
