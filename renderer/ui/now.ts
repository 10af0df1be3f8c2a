/** The time of day as a value that changes once a second, shared by everything that shows how long ago something was. */
import { onScopeDispose, readonly, ref, type Ref } from 'vue'

const now = ref(Date.now())
let users = 0
let timer = 0

export function useNow(): Readonly<Ref<number>> {
  if (users++ === 0) timer = window.setInterval(() => (now.value = Date.now()), 1000)
  now.value = Date.now()
  onScopeDispose(() => {
    if (--users === 0) clearInterval(timer)
  })
  return readonly(now)
}
