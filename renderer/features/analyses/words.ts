/** The words inside figures in the page's language. For the setup of a component. */
import { computed, type ComputedRef } from 'vue'
import { useI18n } from 'vue-i18n'
import type { FigureWords } from '#core/shared/figures/routing-figures.ts'
import { figureWords as english } from '#renderer/locales/en-analyses.ts'
import { figureWords as chinese } from '#renderer/locales/zh-analyses.ts'

export function useFigureWords(): ComputedRef<FigureWords> {
  const { locale } = useI18n()
  return computed(() => (locale.value === 'zh' ? chinese : english))
}
