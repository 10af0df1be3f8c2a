/** What the chat remembers between visits: how tokens are drawn, and what their colours mean. */
import { computed, reactive, watch } from 'vue'
import { samplingSchema } from '#core/shared/chats.ts'
import { useSystem } from '#renderer/features/system/store.ts'

const viewKey = 'chat'

/** `row`: of a token's layers, those of the model that have experts, the one whose expert is shown. */
export type TokenColour = { by: 'none' | 'probability' | 'expert'; row: number }

let choices: ReturnType<typeof create> | null = null

/** One set of choices for the page's life, so that its panels agree. */
export function useChatChoices() {
  return (choices ??= create())
}

function create() {
  const system = useSystem()
  const values = reactive({ ...samplingSchema.parse({}), colourBy: 'none' as TokenColour['by'], layer: 0 })
  let known = false
  // The remembered values come with the first answer of the core.
  watch(
    () => system.settings.views[viewKey],
    (stored) => {
      if (known || stored === undefined) return
      known = true
      Object.assign(values, system.view(viewKey, { ...values }))
    },
    { immediate: true },
  )
  watch(values, () => {
    known = true
    system.rememberView(viewKey, { ...values })
  })
  return {
    values,
    sampling: computed(() => samplingSchema.parse({ temperature: values.temperature, topP: values.topP, maxTokens: values.maxTokens, seed: values.seed })),
    /** For a model whose `layers` have experts: the chosen layer, or the nearest before it that this model has. */
    colourIn: (layers: readonly number[]): TokenColour => ({
      by: values.colourBy === 'expert' && layers.length === 0 ? 'none' : values.colourBy,
      row: Math.max(0, layers.findLastIndex((layer) => layer <= values.layer)),
    }),
    reset: () => Object.assign(values, samplingSchema.parse({})),
  }
}
