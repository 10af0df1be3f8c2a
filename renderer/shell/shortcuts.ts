/**
 * Keyboard shortcuts of the whole page. Letters act only outside of fields; a sequence (g, then h) has a second to end.
 * One listener for all, so that the help dialog can list exactly what there is.
 */
import { onBeforeUnmount, onMounted } from 'vue'

export type Shortcut = { keys: string; run: () => void }

const sequenceMs = 1000

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName))
}

/** Listens while the component that calls it is mounted. `keys` is one key, or two with a space for a sequence. */
export function useShortcuts(shortcuts: Shortcut[]): void {
  let first = ''
  let firstAt = 0
  const onKey = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isTyping(event.target)) return
    const sequence = event.timeStamp - firstAt < sequenceMs ? `${first} ${event.key}` : event.key
    const found = shortcuts.find(({ keys }) => keys === sequence || keys === event.key)
    first = found ? '' : event.key
    firstAt = event.timeStamp
    if (!found) return
    event.preventDefault()
    found.run()
  }
  onMounted(() => window.addEventListener('keydown', onKey))
  onBeforeUnmount(() => window.removeEventListener('keydown', onKey))
}
