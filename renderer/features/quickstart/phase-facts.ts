/** How far a phase is, how fast it goes and how long it will take, as one line and as a share. */
import { computed, toValue, type ComputedRef, type MaybeRefOrGetter } from 'vue'
import { useI18n } from 'vue-i18n'
import type { Phase } from '#core/shared/runs.ts'
import { useFormat } from '#renderer/format.ts'
import { phaseAmount } from './phases.ts'
import { useRate } from './rate.ts'

/** `share` is null while nobody knows how much there is. */
export function usePhaseFacts(of: MaybeRefOrGetter<Phase | null>): { amount: ComputedRef<string>; pace: ComputedRef<string>; share: ComputedRef<number | null> } {
  const { t, te } = useI18n()
  const f = useFormat()
  const rate = useRate(of)
  const unitName = (unit: string): string => (unit && te(`unit.${unit}`) ? t(`unit.${unit}`) : unit)
  const amount = computed(() => {
    const phase = toValue(of)
    return phase ? phaseAmount(phase, f, unitName, (values) => t('quickstart.amount', values)) : ''
  })
  const pace = computed(() => {
    const phase = toValue(of)
    if (!phase) return ''
    const speed = rate.value === null || !phase.unit ? '' : t('quickstart.perSecond', { amount: phase.unit === 'bytes' ? f.bytes(rate.value) : `${f.compact(rate.value)} ${unitName(phase.unit)}` })
    const left = phase.etaSeconds === null ? '' : t('run.left', { time: f.duration(phase.etaSeconds) })
    return [speed, left].filter(Boolean).join(' · ')
  })
  const share = computed(() => {
    const phase = toValue(of)
    return phase?.total ? Math.min(0.99, phase.done / phase.total) : null
  })
  return { amount, pace, share }
}
