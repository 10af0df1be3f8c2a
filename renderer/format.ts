/**
 * Numbers, sizes, times and errors as text in the page's language. Everything shown goes through here, so that the same
 * quantity looks the same everywhere.
 */
import { useI18n } from 'vue-i18n'
import type { ErrorData } from '#core/shared/errors.ts'

const byteUnits = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'] as const
const flopUnits = ['', 'k', 'M', 'G', 'T', 'P']

/** Bytes at a glance: 1.2 GB. */
export function formatBytes(value: number, locale: string): string {
  const power = value < 1 ? 0 : Math.min(byteUnits.length - 1, Math.floor(Math.log(value) / Math.log(1000)))
  return new Intl.NumberFormat(locale, { style: 'unit', unit: byteUnits[power]!, unitDisplay: power === 0 ? 'long' : 'short', maximumSignificantDigits: 3 }).format(value / 1000 ** power)
}

/** An error's parameters as a sentence takes them: what is named …Bytes is a size. */
export function errorParams({ params }: Pick<ErrorData, 'params'>, locale: string): Record<string, string | number> {
  return Object.fromEntries(Object.entries(params).map(([name, value]) => [name, typeof value === 'number' && /bytes$/i.test(name) ? formatBytes(value, locale) : value]))
}

/** Formatters bound to the current language; call inside setup. */
export function useFormat() {
  const { t, te, locale } = useI18n()
  const number = (value: number, options?: Intl.NumberFormatOptions) => new Intl.NumberFormat(locale.value, options).format(value)

  /** A count in full: 12,345. */
  const count = (value: number) => number(value, { maximumFractionDigits: 0 })
  /** A count at a glance: 1.2M. Compact English units everywhere, because M and B are what the field writes. */
  const compact = (value: number) => new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 }).format(value)
  /** A measured value with `digits` significant digits; very small and large ones in scientific notation. */
  const significant = (value: number, digits = 4) => {
    const size = Math.abs(value)
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(Math.max(0, digits - 2)).replace('e+', 'e')
    return number(value, { maximumSignificantDigits: digits })
  }
  const fixed = (value: number, digits: number) => number(value, { minimumFractionDigits: digits, maximumFractionDigits: digits })
  /** A difference: with its sign, 0 without. */
  const signed = (value: number, digits: number) => number(value, { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: 'exceptZero' })
  const percent = (share: number, digits = 0) => number(share, { style: 'percent', maximumFractionDigits: digits, minimumFractionDigits: digits })
  const bytes = (value: number) => formatBytes(value, locale.value)
  const bandwidth = (bytesPerSecond: number) => `${bytes(bytesPerSecond)}/s`
  const flops = (perSecond: number) => {
    const power = perSecond < 1 ? 0 : Math.min(flopUnits.length - 1, Math.floor(Math.log10(perSecond) / 3))
    return `${number(perSecond / 1000 ** power, { maximumSignificantDigits: 3 })} ${flopUnits[power]}FLOP/s`
  }
  const duration = (seconds: number) => {
    const s = Math.max(0, Math.round(seconds))
    if (s < 60) return t('time.seconds', { s })
    if (s < 3600) return t('time.minutes', { m: Math.floor(s / 60), s: s % 60 })
    if (s < 86_400) return t('time.hours', { h: Math.floor(s / 3600), m: Math.floor((s % 3600) / 60) })
    return t('time.days', { d: Math.floor(s / 86_400), h: Math.floor((s % 86_400) / 3600) })
  }
  const date = (at: number) => new Intl.DateTimeFormat(locale.value, { dateStyle: 'medium', timeStyle: 'short' }).format(at)
  const clock = (at: number) => new Intl.DateTimeFormat(locale.value, { timeStyle: 'medium', hour12: false }).format(at)
  const ago = (at: number, now: number) => {
    const seconds = Math.max(0, (now - at) / 1000)
    const relative = new Intl.RelativeTimeFormat(locale.value, { numeric: 'auto', style: 'short' })
    if (seconds < 60) return t('time.justNow')
    if (seconds < 3600) return relative.format(-Math.floor(seconds / 60), 'minute')
    if (seconds < 86_400) return relative.format(-Math.floor(seconds / 3600), 'hour')
    if (seconds < 7 * 86_400) return relative.format(-Math.floor(seconds / 86_400), 'day')
    return new Intl.DateTimeFormat(locale.value, { dateStyle: 'medium' }).format(at)
  }
  /** The sentence of an error in the page's language; the core's own English where the catalogue has none. */
  const error = (data: ErrorData) => {
    const key = `errors.${data.code.replaceAll('.', '_')}`
    return te(key) ? t(key, errorParams(data, locale.value)) : data.message || t('errors.unknown')
  }
  const hint = (data: ErrorData) => {
    const key = `errorHints.${data.code.replaceAll('.', '_')}`
    return te(key) ? t(key, errorParams(data, locale.value)) : data.hint
  }
  return { count, compact, significant, fixed, signed, percent, bytes, bandwidth, flops, duration, date, clock, ago, error, hint }
}

export type Format = ReturnType<typeof useFormat>
