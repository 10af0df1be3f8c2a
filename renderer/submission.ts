/** What a form asks for, one thing at a time: whether it is under way, and what went wrong with the last try. */
import { ref, type Ref } from 'vue'
import type { ErrorData } from '#core/shared/errors.ts'
import { errorData } from './client.ts'

export type Submission = {
  busy: Ref<boolean>
  failure: Ref<ErrorData | null>
  /** Does `work`; its error is kept in `failure`, to be shown beside the button. */
  submit(work: () => Promise<unknown>): Promise<void>
}

export function useSubmission(): Submission {
  const busy = ref(false)
  const failure = ref<ErrorData | null>(null)
  return {
    busy,
    failure,
    async submit(work) {
      busy.value = true
      failure.value = null
      try {
        await work()
      } catch (error) {
        failure.value = errorData(error)
      } finally {
        busy.value = false
      }
    },
  }
}
