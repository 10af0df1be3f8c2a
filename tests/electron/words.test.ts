/** The shell speaks both languages of the product, in full. */
import { expect, test } from 'vitest'
import { wordsFor } from '#electron/words.ts'

const placeholders = (text: string): string[] => text.match(/\{\w+\}/g) ?? []

test('both catalogues have the same words with the same placeholders, and no word was left in English', () => {
  const english = wordsFor('en-GB')
  const chinese = wordsFor('zh-CN')
  expect(Object.keys(chinese)).toEqual(Object.keys(english))
  for (const key of Object.keys(english) as (keyof typeof english)[]) {
    expect(placeholders(chinese[key]), key).toEqual(placeholders(english[key]))
    expect(chinese[key], key).toMatch(/\p{Script=Han}/u)
  }
})

test('a locale the product does not have is answered in English', () => {
  expect(wordsFor('fr')).toBe(wordsFor('en'))
  expect(wordsFor('zh-TW')).toBe(wordsFor('zh'))
})
