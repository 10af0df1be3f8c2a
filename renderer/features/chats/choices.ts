/** What the chat remembers between visits: how replies are drawn, what colours mean, and how tokens are drawn from. */
import { computed, reactive, watch } from 'vue'
import { samplingSchema, type Sampling } from '#core/shared/chats.ts'
import { useSystem } from '#renderer/features/system/store.ts'

const viewKey = 'chat'

export type TokenColour = { by: 'none' | 'probability' | 'expert'; layer: number }
/** `auto`: formatted where the model chats, tokens where it continues text. */
export type ReplyView = 'auto' | 'formatted' | 'tokens'

let choices: ReturnType<typeof create> | null = null

/** One set of choices for the page's life, so that its panels agree. */
export function useChatChoices() {
  return (choices ??= create())
}

function create() {
  const system = useSystem()
  const values = reactive({ ...samplingSchema.parse({}), view: 'auto' as ReplyView, colourBy: 'none' as TokenColour['by'], layer: 0 })
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
    sampling: computed((): Sampling => samplingSchema.parse({ temperature: values.temperature, topP: values.topP, maxTokens: values.maxTokens, seed: values.seed })),
    colour: computed((): TokenColour => ({ by: values.colourBy, layer: values.layer })),
    /** A chat goes on as it was last answered. */
    take: (sampling: Sampling) => Object.assign(values, sampling),
    reset: () => Object.assign(values, samplingSchema.parse({})),
  }
}
