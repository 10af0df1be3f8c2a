/**
 * The machine's facts and the remembered settings. Settings apply at once and are written behind; the last language and
 * theme are also kept in the browser, so that the first paint is right before the core has answered.
 */
import { useDebounceFn } from '@vueuse/core'
import { defineStore } from 'pinia'
import { ref, watch } from 'vue'
import { settingsSchema, type About, type Settings } from '#core/shared/system.ts'
import { api, connection, errorData } from '#renderer/client.ts'
import { setLanguage, systemLanguage } from '#renderer/i18n.ts'
import { notifyError } from '#renderer/shell/notify.ts'
import { setTheme } from '#renderer/ui/theme.ts'

const cacheKey = 'moe-workbench-settings'
const aboutRefreshMs = 15_000

export const useSystem = defineStore('system', () => {
  const about = ref<About | null>(null)
  const settings = ref<Settings>(settingsSchema.parse(readCache()))

  watch(
    () => [settings.value.language, settings.value.theme] as const,
    ([language, theme]) => {
      setLanguage(language === 'system' ? systemLanguage() : language)
      setTheme(theme)
      localStorage.setItem(cacheKey, JSON.stringify({ language, theme }))
    },
    { immediate: true },
  )

  async function load(): Promise<void> {
    const [machine, stored] = await Promise.all([api.system.about(), api.system.settings()])
    about.value = machine
    settings.value = stored
  }

  async function refreshAbout(): Promise<void> {
    if (connection.state === 'open') about.value = await api.system.about().catch(() => about.value)
  }

  /** Loads whenever the connection opens, and keeps the machine's facts fresh (the peak is measured after the start). */
  function start(): void {
    watch(
      () => connection.state,
      (state) => {
        if (state === 'open') load().catch((error: unknown) => notifyError(errorData(error)))
      },
      { immediate: true },
    )
    setInterval(() => void refreshAbout(), aboutRefreshMs)
  }

  const write = useDebounceFn((part: Partial<Settings>) => {
    api.system.updateSettings(part).catch((error: unknown) => notifyError(errorData(error)))
  }, 300)

  function update(part: Partial<Pick<Settings, 'language' | 'theme'>>): void {
    settings.value = { ...settings.value, ...part }
    api.system.updateSettings(part).catch((error: unknown) => notifyError(errorData(error)))
  }

  /** What the view last used, laid over `defaults`. */
  function view<T extends Record<string, unknown>>(key: string, defaults: T): T {
    return { ...defaults, ...(settings.value.views[key] as Partial<T> | undefined) }
  }

  function rememberView(key: string, value: Record<string, string | number | boolean | null>): void {
    settings.value = { ...settings.value, views: { ...settings.value.views, [key]: value } }
    void write({ views: settings.value.views })
  }

  return { about, settings, start, refreshAbout, update, view, rememberView }
})

function readCache(): unknown {
  try {
    return JSON.parse(localStorage.getItem(cacheKey) ?? '{}')
  } catch {
    return {}
  }
}
