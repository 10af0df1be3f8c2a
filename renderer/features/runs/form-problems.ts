/** What is wrong with the form of a new run, in the page's language: the schema's rules, with the numbers they are about. */
import { computed, type ComputedRef } from 'vue'
import { useI18n } from 'vue-i18n'
import type { RunConfig } from '#core/shared/runs.ts'
import type { Checked, RecipeFields } from './recipe.ts'

type Field = keyof RecipeFields

/** Keys of newRun.problem; `whole` for the others. */
const kinds: Partial<Record<Field, string>> = {
  name: 'name', learningRate: 'positive', loadBalanceWeight: 'positive', routerZWeight: 'positive', warmupSteps: 'positive', finalShare: 'share', decaySteps: 'decay', prompts: 'prompts',
}

export function useFormProblems(checked: ComputedRef<Checked>, fields: RecipeFields, base: ComputedRef<RunConfig>) {
  const { t } = useI18n()

  /** The problem of one field, or undefined. */
  function problemText(key: Field): string | undefined {
    if (!checked.value.problems.some(({ field }) => field === key)) return undefined
    if (fields[key] === null) return t('newRun.problem.missing')
    if (key === 'expertsPerToken' && (fields.expertsPerToken ?? 0) > (fields.experts ?? 0)) return t('newRun.problem.expertsPerToken', { experts: fields.experts ?? 0 })
    if (key === 'hiddenSize' && (fields.hiddenSize ?? 0) > 0) return t('newRun.problem.hiddenSize', { multiple: 2 * base.value.model.num_attention_heads })
    return t(`newRun.problem.${kinds[key] ?? 'whole'}`)
  }

  /** What the start button says instead of starting, or null. */
  const firstProblem = computed(() => {
    const first = checked.value.problems[0]
    if (!first) return null
    return t('newRun.fix', { field: first.field ? t(`newRun.field.${first.field}`) : first.path })
  })
  return { problemText, firstProblem }
}
