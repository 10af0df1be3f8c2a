/** Which theme the page shows, for widgets that draw on a canvas. CSS follows the class on the root element by itself. */
import { readonly, ref } from 'vue'

const media = window.matchMedia('(prefers-color-scheme: dark)')
const dark = ref(false)
let choice: 'system' | 'light' | 'dark' = 'system'

export const isDark = readonly(dark)

/** Shows the page in `theme`; `system` follows the system from then on. */
export function setTheme(theme: typeof choice): void {
  choice = theme
  dark.value = theme === 'dark' || (theme === 'system' && media.matches)
  document.documentElement.classList.toggle('dark', dark.value)
  document.documentElement.classList.toggle('light', !dark.value)
}

media.addEventListener('change', () => setTheme(choice))

/** The value of a CSS colour property right now, in a form that a canvas takes. */
export function cssColour(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim()
}
