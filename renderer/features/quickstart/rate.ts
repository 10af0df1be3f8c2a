/** How fast a phase goes, from its last reports. */
import { ref, toValue, watch, type MaybeRefOrGetter, type Ref } from 'vue'
import type { Phase } from '#core/shared/runs.ts'

const windowMs = 6000

/** Units per second over the last seconds; null until two reports of one phase are apart. */
export function useRate(phase: MaybeRefOrGetter<Phase | null>): Ref<number | null> {
  const rate = ref<number | null>(null)
  let name = ''
  let seen: { at: number; done: number }[] = []
  watch(
    () => toValue(phase),
    (now) => {
      if (!now || now.phase !== name) seen = []
      name = now?.phase ?? ''
      const at = performance.now()
      if (now) seen = [...seen.filter((one) => at - one.at < windowMs), { at, done: now.done }]
      const first = seen[0]
      rate.value = first && now && at - first.at > 400 && now.done > first.done ? (1000 * (now.done - first.done)) / (at - first.at) : null
    },
    { immediate: true },
  )
  return rate
}
