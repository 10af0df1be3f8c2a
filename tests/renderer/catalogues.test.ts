/** The catalogues of all languages have the same keys and the same placeholders, and no page holds words of its own. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { en } from '#renderer/locales/en.ts'
import { zh } from '#renderer/locales/zh.ts'

type Catalogue = { readonly [key: string]: string | Catalogue }

function flatten(catalogue: Catalogue, prefix = ''): Map<string, string> {
  const all = new Map<string, string>()
  for (const [key, value] of Object.entries(catalogue)) {
    if (typeof value === 'string') all.set(prefix + key, value)
    else for (const [inner, text] of flatten(value, `${prefix}${key}.`)) all.set(inner, text)
  }
  return all
}

const placeholders = (text: string): string[] => [...new Set([...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!))].sort()
const [english, chinese] = [flatten(en), flatten(zh)]
const renderer = join(import.meta.dirname, '../../renderer')
const templates = readdirSync(renderer, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.vue'))
  .map((path) => ({ path, source: readFileSync(join(renderer, path), 'utf8') }))

test('both catalogues have the same keys', () => {
  expect([...chinese.keys()].sort()).toEqual([...english.keys()].sort())
})

test('a translation has the placeholders of its original', () => {
  for (const [key, text] of english) expect(placeholders(chinese.get(key) ?? ''), key).toEqual(placeholders(text))
})

test('no translation is empty, and Chinese sentences are Chinese', () => {
  for (const [key, text] of chinese) expect(text.trim(), key).not.toBe('')
  // Prompts to try stay in the language that the sample model was trained on.
  const untranslated = [...english].filter(([key, text]) => !key.startsWith('chat.example.') && text.split(' ').length >= 4 && chinese.get(key) === text)
  expect(untranslated).toEqual([])
})

test('the questions that the chat suggests are of the set that the quick start teaches', () => {
  const taught = new Set(readFileSync(join(import.meta.dirname, '../../resources/adaptation/instructions.jsonl'), 'utf8').trim().split('\n').map((line) => (JSON.parse(line) as { prompt: string }).prompt))
  for (const key of ['colour', 'sum', 'opposite', 'day']) expect(taught, key).toContain(english.get(`chat.example.${key}`))
})

test('templates hold no words of their own', () => {
  const raw = templates.flatMap(({ path, source }) => {
    const template = /<template>([\s\S]*)<\/template>/.exec(source)?.[1] ?? ''
    const text = template.replace(/<!--[\s\S]*?-->/g, '').replace(/\{\{[\s\S]*?\}\}/g, '').replace(/<(?:"[^"]*"|'[^']*'|[^>"'])*>/g, '\n')
    return text.split('\n').map((line) => line.trim()).filter((line) => /[A-Za-z]{3,}/.test(line) && line !== 'FLOP').map((line) => `${path}: ${line}`)
  })
  expect(raw).toEqual([])
})
