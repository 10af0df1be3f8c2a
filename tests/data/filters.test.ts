/** Each filter against the plainest implementation of its rule, on texts drawn from one seed. */
import { expect, test } from 'vitest'
import { addNgrams } from '#core/data/build/contamination.ts'
import { createNearDuplicates, signatureOf, similarityOf } from '#core/data/filters/near-duplicates.ts'
import { createNumberSet } from '#core/data/filters/number-set.ts'
import { findRepeats } from '#core/data/filters/repeats.ts'
import { comparedWords, countWords, frequentWordShares, hashNgrams, ngramsOf } from '#core/data/filters/words.ts'
import { createRandom } from '#core/shared/random.ts'

const random = createRandom(7, 'filters')
const drawWords = (count: number, vocabulary: number): string[] => Array.from({ length: count }, () => `w${random.nextBelow(vocabulary)}`)

/** Every start and period, repeat by repeat. */
function hasRepeats(ids: readonly number[], count: number, longest: number): boolean {
  for (let period = 1; period <= longest; period++) {
    for (let start = 0; start + period * count <= ids.length; start++) {
      const gram = ids.slice(start, start + period).join()
      let repeats = 1
      while (ids.slice(start + repeats * period, start + (repeats + 1) * period).join() === gram) repeats++
      if (repeats >= count) return true
    }
  }
  return false
}

test('repeats: as a search over every start and period finds them, around the threshold of 32 for periods 1 to 13', () => {
  for (let period = 1; period <= 14; period++) {
    for (const repeats of [31, 32]) {
      const gram = Array.from({ length: period }, (_, i) => 100 + i)
      const run = Array.from({ length: repeats }, () => gram).flat()
      const ids = [1, 2, 3, ...run, 4, 5]
      expect(findRepeats(ids, { count: 32, longest: 13 }) !== null, `period ${period}, ${repeats} times`).toBe(repeats >= 32 && period <= 13)
    }
  }
  let found = 0
  for (let i = 0; i < 400; i++) {
    const ids = Array.from({ length: 60 }, () => random.nextBelow(2 + (i % 3)))
    const rule = { count: 4 + (i % 4), longest: 5 }
    const expected = hasRepeats(ids, rule.count, rule.longest)
    expect(findRepeats(ids, rule) !== null).toBe(expected)
    found += Number(expected)
  }
  expect(found).toBeGreaterThan(50)
  expect(found).toBeLessThan(350)
})

test('frequent words: shares as counting them one by one gives', () => {
  for (let i = 0; i < 100; i++) {
    const words = drawWords(1 + random.nextBelow(60), 1 + (i % 8))
    const counts = [...new Set(words)].map((word) => words.filter((other) => other === word).length).sort((a, b) => b - a)
    const { top, topTwo } = frequentWordShares(` ${words.join(i % 2 ? ' ' : '\n\t ')} `)
    expect(top).toBeCloseTo(counts[0]! / words.length, 12)
    expect(topTwo).toBeCloseTo((counts[0]! + (counts[1] ?? 0)) / words.length, 12)
  }
  expect(frequentWordShares(' \n')).toEqual({ top: 0, topTwo: 0 })
})

const shingles = (text: string, n: number): Set<string> => {
  const words = comparedWords(text)
  return new Set(Array.from({ length: Math.max(1, words.length - n + 1) }, (_, i) => words.slice(i, i + n).join(' ')))
}
function jaccard(a: string, b: string): number {
  const [one, two] = [shingles(a, 5), shingles(b, 5)]
  const common = [...one].filter((shingle) => two.has(shingle)).length
  return common / (one.size + two.size - common)
}

test('MinHash estimates the exact Jaccard similarity', () => {
  let worst = 0
  for (let i = 0; i < 60; i++) {
    const words = drawWords(400, 5000)
    const changed = words.map((word) => (random.nextBelow(400) < i / 2 ? 'other' : word))
    const exact = jaccard(words.join(' '), changed.join(' '))
    const estimate = similarityOf(signatureOf(words.join(' '), 5)!, signatureOf(changed.join(' '), 5)!)
    worst = Math.max(worst, Math.abs(exact - estimate))
  }
  // Three standard deviations of a share of 128.
  expect(worst).toBeLessThan(0.15)
})

test('near duplicates: what comparing every pair exactly finds, within the error of the estimate', () => {
  const texts: string[] = []
  for (let i = 0; i < 60; i++) {
    const words = drawWords(300, 3000)
    texts.push(words.join(' '))
    if (i % 3 === 0) texts.push(words.map((word) => (random.nextBelow(300) < 2 ? 'new' : word)).join('  ').toUpperCase())
    if (i % 5 === 0) texts.push(words.map((word) => (random.nextBelow(300) < 60 ? 'new' : word)).join(' '))
  }
  const kept: string[] = []
  const finder = createNearDuplicates(0.8, (earlier) => signatureOf(kept[earlier]!, 5)!)
  for (const text of texts) {
    const dropped = finder.find(signatureOf(text, 5)!)
    const best = Math.max(0, ...kept.map((earlier) => jaccard(earlier, text)))
    if (best > 0.92) expect(dropped).not.toBeNull()
    if (best < 0.65) expect(dropped).toBeNull()
    if (dropped === null) kept.push(text)
    else expect(jaccard(kept[dropped.earlier]!, text)).toBeCloseTo(dropped.similarity, 0)
  }
  expect(texts.length - kept.length).toBeGreaterThan(17)
  expect(signatureOf('… !!', 5)).toBeNull()
})

test('contamination: the 13-grams that a set of strings finds, whatever case and punctuation', () => {
  const evaluation = drawWords(60, 2000)
  const known = createNumberSet()
  addNgrams(evaluation.join(' '), 13, known)
  const exact = shingles(evaluation.join(' '), 13)
  expect(known.size).toBe(exact.size)
  for (let i = 0; i < 100; i++) {
    const taken = random.nextBelow(30)
    const start = random.nextBelow(60 - taken)
    const text = [...drawWords(30, 2000), ...evaluation.slice(start, start + taken), ...drawWords(30, 2000)].join(i % 2 ? ' ' : ', ')
    const expected = [...shingles(text, 13)].filter((gram) => exact.has(gram)).length
    expect(ngramsOf(i % 3 ? text : text.toUpperCase(), 13).filter((hash) => known.has(hash))).toHaveLength(expected)
  }
  expect(hashNgrams(['a', 'b'], 13)).toHaveLength(0)
  expect(comparedWords('Ab-c 12! 中文x')).toEqual(['ab', 'c', '12', '中', '文', 'x'])
})

test('a number set is a set', () => {
  const [set, reference] = [createNumberSet(), new Set<number>()]
  for (let i = 0; i < 20_000; i++) {
    const value = random.nextBelow(2) * 2 ** 40 + random.nextBelow(8000)
    expect(set.add(value)).toBe(!reference.has(value))
    reference.add(value)
  }
  expect(set.size).toBe(reference.size)
  expect([...reference].every((value) => set.has(value))).toBe(true)
  expect(set.has(2 ** 50)).toBe(false)
})

test('words are counted as \\S+ matches them, on every white space there is', () => {
  const spaces = Array.from({ length: 0x10000 }, (_, code) => String.fromCharCode(code)).filter((character) => /\s/.test(character))
  for (let i = 0; i < 300; i++) {
    const text = Array.from({ length: 40 }, () => (random.nextBelow(3) === 0 ? spaces[random.nextBelow(spaces.length)]! : String.fromCharCode(random.nextBelow(0x3100)))).join('')
    expect(countWords(text), JSON.stringify(text)).toBe(text.match(/\S+/g)?.length ?? 0)
  }
  expect(spaces.every((space) => countWords(`a${space}b`) === 2)).toBe(true)
})
