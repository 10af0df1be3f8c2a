/** What the filters of a draft would do, asked for a moment after its last change; an answer that is overtaken is dropped. */
import { onScopeDispose, ref, toValue, watch, type MaybeRefOrGetter } from 'vue'
import type { FilterPreview, MixDraft } from '#core/shared/builds.ts'
import type { ErrorData } from '#core/shared/errors.ts'
import { api, errorData } from '#renderer/client.ts'

const pauseMs = 500

export function useFilterPreview(draft: MaybeRefOrGetter<MixDraft | null>, isWanted: MaybeRefOrGetter<boolean>) {
  const preview = ref<FilterPreview | null>(null)
  const failure = ref<ErrorData | null>(null)
  const busy = ref(false)
  let timer = 0
  let stopper: AbortController | null = null
  let shownKey = ''

  /** What decides the answer: a name or shares do not. */
  const keyOf = (of: MixDraft): string => JSON.stringify([of.sources, of.filters, of.tokenizer, of.vocabularySize, of.heldOut])

  async function ask(of: MixDraft, key: string): Promise<void> {
    const mine = new AbortController()
    stopper = mine
    busy.value = true
    try {
      const answer = await api.builds.preview({ draft: of }, { signal: mine.signal })
      if (mine.signal.aborted) return
      preview.value = answer
      failure.value = null
      shownKey = key
    } catch (error) {
      if (mine.signal.aborted) return
      failure.value = errorData(error)
      preview.value = null
      shownKey = ''
    }
    busy.value = false
  }

  function refresh(): void {
    const of = toValue(draft)
    if (!of || !toValue(isWanted) || of.sources.length === 0) return
    const key = keyOf(of)
    clearTimeout(timer)
    stopper?.abort()
    busy.value = key !== shownKey
    if (key !== shownKey) timer = window.setTimeout(() => void ask(of, key), preview.value === null ? 0 : pauseMs)
  }
  watch(() => [toValue(draft) && keyOf(toValue(draft)!), toValue(isWanted)], refresh, { immediate: true })
  onScopeDispose(() => {
    clearTimeout(timer)
    stopper?.abort()
  })
  return { preview, failure, busy, refresh }
}
