/** A probe of one recipe: starts it, follows it, and knows whether the recipe has changed since. Ends it with the component. */
import { computed, onScopeDispose, ref, toValue, type MaybeRefOrGetter } from 'vue'
import type { MemoryPlan, ProbeEvent, ProbeResult } from '#core/shared/devices.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import type { Phase, RunConfig } from '#core/shared/runs.ts'
import { api, errorData } from '#renderer/client.ts'

export function useProbe(config: MaybeRefOrGetter<RunConfig | null>) {
  const state = ref<'idle' | 'running' | 'over'>('idle')
  const phase = ref<Phase | null>(null)
  const memory = ref<MemoryPlan | null>(null)
  const result = ref<ProbeResult | null>(null)
  const failure = ref<ErrorData | null>(null)
  const probed = ref<RunConfig | null>(null)
  let stopper: AbortController | null = null

  const keyOf = (recipe: RunConfig | null): string => JSON.stringify({ ...recipe, name: '' })
  const isStale = computed(() => state.value === 'over' && keyOf(probed.value) !== keyOf(toValue(config)))

  function take(event: ProbeEvent): void {
    if (event.type === 'phase') phase.value = event.phase
    else if (event.type === 'memory') memory.value = event.memory
    else if (event.type === 'failed') failure.value = event.error
    else {
      result.value = event.result
      memory.value = event.result.memory
    }
  }

  function reset(): void {
    phase.value = memory.value = result.value = failure.value = null
  }

  async function start(): Promise<void> {
    const recipe = toValue(config)
    if (!recipe) return
    const mine = new AbortController()
    stopper = mine
    reset()
    probed.value = structuredClone(recipe)
    state.value = 'running'
    try {
      for await (const event of await api.devices.probe({ config: recipe }, { signal: mine.signal })) {
        if (mine.signal.aborted) return
        take(event)
      }
    } catch (error) {
      if (mine.signal.aborted) return
      failure.value = errorData(error)
    }
    state.value = 'over'
  }

  function cancel(): void {
    stopper?.abort()
    reset()
    state.value = 'idle'
  }
  onScopeDispose(() => stopper?.abort())

  return { state, phase, memory, result, failure, probed, isStale, start, cancel }
}
