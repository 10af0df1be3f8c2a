/**
 * Short messages in the corner: failures with what to do about them, and confirmations of things that leave no other
 * trace. Stores call these outside of any component; the shell connects them to the toaster once.
 */
import { errorParams } from '#renderer/format.ts'
import { i18n } from '#renderer/i18n.ts'
import type { ErrorData } from '#core/shared/errors.ts'

export type Notice = { id?: string; title: string; description?: string; color: 'error' | 'neutral'; icon: string; duration: number }

let show: (notice: Notice) => void = () => {}

/** Called by the shell with the toaster's `add`. */
export function connectToaster(add: (notice: Notice) => void): void {
  show = add
}

export function notifyError(error: ErrorData): void {
  // The banner says it already, for every call at once.
  if (error.code === 'connection.lost') return
  const { t, te, locale } = i18n.global
  const params = errorParams(error, locale.value)
  const key = error.code.replaceAll('.', '_')
  const title = te(`errors.${key}`) ? t(`errors.${key}`, params) : error.message || t('errors.unknown')
  const description = te(`errorHints.${key}`) ? t(`errorHints.${key}`, params) : error.hint
  show({ id: `${error.code}:${title}`, title, ...(description && { description }), color: 'error', icon: 'i-lucide-circle-alert', duration: 12_000 })
}

export function notifyDone(title: string, description?: string): void {
  show({ title, ...(description && { description }), color: 'neutral', icon: 'i-lucide-circle-check', duration: 5000 })
}
