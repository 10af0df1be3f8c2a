/**
 * Languages: one catalogue each, English being the reference that the others are compared with (tests/renderer).
 * Plural forms are written with ` | ` in the catalogue; numbers are formatted before they go in (format.ts).
 */
import { createI18n } from 'vue-i18n'
import { en } from './locales/en.ts'
import { zh } from './locales/zh.ts'

export const languages = ['en', 'zh'] as const
export type Language = (typeof languages)[number]

export const i18n = createI18n({
  legacy: false,
  locale: systemLanguage(),
  fallbackLocale: 'en',
  messages: { en, zh },
})

/** The language of the browser or system, as far as there is a catalogue for it. */
export function systemLanguage(): Language {
  return navigator.languages.some((tag) => tag.toLowerCase().startsWith('zh')) && !navigator.language.toLowerCase().startsWith('en') ? 'zh' : 'en'
}

/** Shows the page in `language`, and says so to assistive technology. */
export function setLanguage(language: Language): void {
  i18n.global.locale.value = language
  document.documentElement.lang = language === 'zh' ? 'zh-Hans' : 'en'
}
