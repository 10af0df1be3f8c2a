/** The trainer against a straightforward one that counts all pairs anew for every merge. */
import { expect, test } from 'vitest'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { byteCharacters } from '#core/data/byte-level.ts'
import { createHeap } from '#core/data/heap.ts'
import { serializeTokenizer } from '#core/data/tokenizer.ts'
import { createRandom } from '#core/shared/random.ts'
import { splitWords } from './words.ts'

/** Merges by definition: the most frequent pair over all words, of equals the lowest ids, until `size` tokens. */
function slowMerges(texts: string[], size: number, specials: number, minimum: number): [string, string][] {
  const alphabet = [...byteCharacters].sort()
  const vocabulary = [...Array.from({ length: specials }, (_, i) => `special ${i}`), ...alphabet]
  const words = texts.flatMap((text) => splitWords(text).map((word) => [...Buffer.from(word)].map((byte) => byteCharacters[byte]!)))
  const merges: [string, string][] = []
  while (vocabulary.length < size) {
    const counts = new Map<string, number>()
    for (const word of words) for (let i = 0; i + 1 < word.length; i++) counts.set(`${word[i]} ${word[i + 1]}`, (counts.get(`${word[i]} ${word[i + 1]}`) ?? 0) + 1)
    const ids = (pair: string): number[] => pair.split(' ').map((token) => vocabulary.indexOf(token))
    const best = [...counts].sort((a, b) => b[1] - a[1] || ids(a[0])[0]! - ids(b[0])[0]! || ids(a[0])[1]! - ids(b[0])[1]!)[0]
    if (!best || best[1] < minimum) break
    const [left, right] = best[0].split(' ') as [string, string]
    merges.push([left, right])
    if (!vocabulary.includes(left + right)) vocabulary.push(left + right)
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) if (word[i] === left && word[i + 1] === right) word.splice(i, 2, left + right)
    }
  }
  return merges
}

const texts = (() => {
  const random = createRandom(11, 'words')
  const pieces = ['ka', 'ri', 'mo', 'tan', 'e', 'né', '字', '01', ' ', ' ', ' ', ', ']
  return Array.from({ length: 30 }, () => Array.from({ length: 120 }, () => pieces[random.nextBelow(pieces.length)]).join(''))
})()

test('merges are those of the definition, in order', async () => {
  const tokenizer = await trainTokenizer(texts, { vocabularySize: 360, specialTokens: ['<|endoftext|>'], minimumCount: 2 })
  const expected = slowMerges(texts, 360, 1, 2)
  expect(expected.length).toBeGreaterThan(90)
  expect(tokenizer.json.model.merges).toEqual(expected)
  expect(tokenizer.vocabularySize).toBe(360)
})

test('the order of hash tables and pauses does not show: training again gives the same bytes', async () => {
  const [first, again] = [await trainTokenizer(texts, { vocabularySize: 340 }), await trainTokenizer(texts.values(), { vocabularySize: 340 })]
  expect(serializeTokenizer(again)).toBe(serializeTokenizer(first))
})

test('threads that count do not change a byte, whatever the texts are cut into', async () => {
  const long = Array.from({ length: 400 }, (_, i) => `${texts[i % texts.length]!} ${i} `.repeat(36))
  const sizes = long.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  expect(sizes).toBeGreaterThan(3e6)
  const trained = (given: string[], threads: number) => trainTokenizer(given, { vocabularySize: 600, threads }).then(serializeTokenizer)
  const alone = await trained(long, 0)
  expect(await trained(long, 3)).toBe(alone)
  // One text that is longer than a piece, among others.
  const joined = [long.slice(0, 300).join('\n'), ...long.slice(300)]
  expect(await trained(joined, 2)).toBe(await trained(joined, 0))
})

test('a size that is just the bytes learns no merge', async () => {
  const { json } = await trainTokenizer(['abababab'], { vocabularySize: 256, specialTokens: [] })
  expect(json.model.merges).toEqual([])
})

test('it stops when pairs run out, and below the wanted count', async () => {
  const all = await trainTokenizer(['abababab'], { vocabularySize: 1000, specialTokens: [], minimumCount: 1 })
  expect(all.vocabularySize).toBe(256 + 3)
  expect(all.encode('abababab')).toHaveLength(1)
  const frequent = await trainTokenizer(['abababab'], { vocabularySize: 1000, specialTokens: [], minimumCount: 4 })
  expect(frequent.json.model.merges).toEqual([['a', 'b']])
  await expect(trainTokenizer([], { vocabularySize: 100 })).rejects.toThrow(/258/)
})

test('the heap gives pairs in order, equal priorities by value', () => {
  const random = createRandom(3, 'heap')
  const heap = createHeap()
  const pushed = Array.from({ length: 500 }, () => [random.nextBelow(20), random.nextBelow(1000)] as const)
  for (const [priority, value] of pushed) heap.push(priority, value)
  const popped: [number, number][] = []
  while (heap.pop()) popped.push([heap.priority, heap.value])
  expect(popped).toEqual([...pushed].sort((a, b) => a[0] - b[0] || a[1] - b[1]))
})
