/** The tokenizer against Hugging Face's own JavaScript implementation on hard text, and its file format. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { expect, test } from 'vitest'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { createTokenizer, loadTokenizer, serializeTokenizer, type Tokenizer } from '#core/data/tokenizer.ts'
import { createUtf8Buffer } from '#core/data/utf8-buffer.ts'
import { endOfWord } from '#core/data/word-scanner.ts'
import { createRandom } from '#core/shared/random.ts'
import { splitWords } from './words.ts'

const prose = [
  'The whale, the white whale! It was the whale that they had hunted for three years and the whale had hunted them.',
  "We don't know what they'll say; it's what we've said, and I'm sure she'd agree that they're right.",
  'def encode(self, text):\n    """Returns ids."""\n    return [self.vocab[token] for token in text.split()]\n\n\nclass Encoder(object):\n\tpass\n',
  '床前明月光，疑是地上霜。举头望明月，低头思故乡。春眠不觉晓，处处闻啼鸟。床前明月光，疑是地上霜。',
  'Ünïcödé naïve café, 12345 67.89 %$#@! «quotes» “curly” — dash… ½ ² ٣ ৪ Ünïcödé naïve café',
  'aaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbb aaaaaaaaa                                   ',
]
const tokenizer = await trainTokenizer(prose, { vocabularySize: 420 })

/** The same tokenizer with a change to its file. */
const changed = (change: (json: ReturnType<typeof copy>) => void, of: Tokenizer = tokenizer): Tokenizer => {
  const json = copy(of)
  change(json)
  return createTokenizer(json)
}
const copy = (of: Tokenizer): Tokenizer['json'] => structuredClone(of.json)
const normalizing = changed((json) => (json.normalizer = { type: 'NFC' }))
const withSpaces = changed((json) => {
  const flags = { special: false, single_word: false, lstrip: false, rstrip: false } as const
  json.added_tokens.push({ id: 420, content: '    ', normalized: true, ...flags }, { id: 421, content: '  ', normalized: true, ...flags }, { id: 422, content: '|||MARK|||', normalized: false, ...flags })
})
const theirs = (of: Tokenizer): ((text: string) => number[]) => {
  const reference = new HuggingFaceTokenizer(copy(of), {})
  return (text) => reference.encode(text, { add_special_tokens: false }).ids
}
const pairs = [
  { name: 'plain', ours: tokenizer, ids: theirs(tokenizer) },
  { name: 'NFC', ours: normalizing, ids: theirs(normalizing) },
  { name: 'added tokens', ours: withSpaces, ids: theirs(withSpaces) },
]

const hard = [
  '', ' ', '   ', '\n\n\n', '\t \n x', 'a', ' a', '  a  b   c    ', "it's IT'S I'll we'VE 'd 's", '\r\n\r\n  \r', 'e\u0301 \u00e9 \u1e9b\u0323 \u212b',
  '👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽', '一二三 四五\u3000六', 'عربي עברית ไทย', '\u0000\u0001\u007f\u0080\u009f', '\u200b\u200d\u2028\u2029\u00a0\u2003x', 'a'.repeat(300), ' '.repeat(200),
  '<|endoftext|>', 'a<|endoftext|>b<|padding|> <|endoftext|', '¼ⅷ٣৪①', 'snake_case camelCase kebab-case', 'ﬁ ligature ŀ', '한국어 조합 한국어',
  'if (x) {\r\n\treturn   y;\r\n}', 'a |||MARK||| b     c', '\u0300\u0301\u0302 zalgo z̷̢̛a̴l̶g̸o̵', 'ABC'.repeat(100),
]

test.each(pairs)('$name: ids equal Hugging Face on hard text', ({ ours, ids }) => {
  for (const text of [...hard, ...prose]) expect([...ours.encode(text)], JSON.stringify(text)).toEqual(ids(text))
})

test.each(pairs)('$name: ids equal Hugging Face on random strings', ({ ours, ids }) => {
  const random = createRandom(5, 'text')
  const alphabet = [...' \n\t.,\'"aéßžЖ漢字かなع١½²👍🏽\u0301\u200dxyz019_-+'.normalize('NFD'), '  ', 'the', 'whale', '<|endoftext|>']
  for (let round = 0; round < 300; round++) {
    const text = Array.from({ length: 1 + random.nextBelow(60) }, () => alphabet[random.nextBelow(alphabet.length)]).join('')
    expect([...ours.encode(text)], JSON.stringify(text)).toEqual(ids(text))
  }
})

const utf8 = createUtf8Buffer()
/** The words that the scanner finds. */
function scanWords(text: string): string[] {
  const length = utf8.fill(text)
  const words: string[] = []
  for (let start = 0; start < length; ) {
    const end = endOfWord(utf8.bytes, start, length)
    words.push(Buffer.from(utf8.bytes.subarray(start, end)).toString())
    start = end
  }
  return words
}

test('words are those of the pattern: every code point alone and between others, and random strings', () => {
  for (let point = 0; point < 0x110000; point++) {
    if (point >= 0xd800 && point < 0xe000) continue
    const character = String.fromCodePoint(point)
    const text = `a ${character}1${character}${character} ${character}`
    const words = scanWords(text)
    if (words.join('|') !== splitWords(text).join('|')) expect(words, point.toString(16)).toEqual(splitWords(text))
  }
  const random = createRandom(8, 'words')
  const alphabet = [..." \n\t'\u0085\u00a0\u2003\u3000\ufeffstmdrevl019²½éЖ漢👍.,-", "'s", "'ll", "'re", "'v", ' ', '  ']
  for (let round = 0; round < 20_000; round++) {
    const text = Array.from({ length: 1 + random.nextBelow(12) }, () => alphabet[random.nextBelow(alphabet.length)]).join('')
    if (scanWords(text).join('|') !== splitWords(text).join('|')) expect(scanWords(text), JSON.stringify(text)).toEqual(splitWords(text))
  }
})

test('white space is Unicode’s: U+0085 is, U+FEFF is not (as in the Rust tokenizers; the JavaScript one differs here)', () => {
  expect(scanWords('a\u0085\u0085b')).toEqual(['a', '\u0085', '\u0085', 'b'])
  expect(scanWords('a \ufeffb')).toEqual(['a', ' \ufeff', 'b'])
})

test('a text longer than the buffers, and more words than the cache holds', () => {
  const words = Array.from({ length: 300_000 }, (_, i) => ` ${i.toString(36)}x`)
  const text = words.join('')
  const ids = tokenizer.encode(text)
  expect(tokenizer.decode(ids)).toBe(text)
  expect(tokenizer.encode(words.slice(0, 1000).join(''))).toEqual(ids.subarray(0, tokenizer.encode(words.slice(0, 1000).join('')).length))
})

test('decoding gives the very text back, whole or token by token', () => {
  for (const text of [...hard, ...prose]) {
    const ids = tokenizer.encode(text)
    expect(tokenizer.decode(ids)).toBe(text)
    const decoder = tokenizer.createDecoder()
    expect([...ids].map((id) => decoder.push(id)).join('') + decoder.end()).toBe(text)
    expect(normalizing.decode(normalizing.encode(text))).toBe(text.normalize('NFC'))
  }
})

test('a decoder holds back the bytes of an unfinished character, and keeps a byte order mark', () => {
  const ids = [...tokenizer.encode('👍')]
  expect(ids.length).toBeGreaterThan(1)
  const decoder = tokenizer.createDecoder()
  expect(ids.slice(0, -1).map((id) => decoder.push(id)).join('')).toBe('')
  expect(decoder.push(ids.at(-1)!)).toBe('👍')
  const cut = tokenizer.createDecoder()
  expect(cut.push(ids[0]!)).toBe('')
  expect(cut.end()).toBe('\ufffd')
  expect(tokenizer.decode(tokenizer.encode('\ufeffx'))).toBe('\ufeffx')
})

test('ids that the tokenizer has no token for give no text', () => {
  expect(tokenizer.decode([...tokenizer.encode('a'), 5000, ...tokenizer.encode('b')])).toBe('ab')
})

test('a lone surrogate becomes the replacement character', () => {
  expect(tokenizer.decode(tokenizer.encode('a\ud800b'))).toBe('a\ufffdb')
})

test('special tokens are ids, or plain text where a document must not end itself', () => {
  expect(tokenizer.eosId).toBe(0)
  expect([...tokenizer.encode('<|endoftext|>')]).toEqual([0])
  const plain = tokenizer.encode('a<|endoftext|>b', { special: 'text' })
  expect(plain).not.toContain(0)
  expect(tokenizer.decode(plain)).toBe('a<|endoftext|>b')
  expect([...tokenizer.encode('<|user|>')].length).toBeGreaterThan(1)
})

test('a long word takes no quadratic time', () => {
  const started = performance.now()
  expect(tokenizer.encode('a'.repeat(400_000)).length).toBeGreaterThan(0)
  expect(performance.now() - started).toBeLessThan(5000)
})

test('tokenizer.json: saved and loaded it is the same; what would change ids is refused by name', () => {
  const folder = mkdtempSync(join(tmpdir(), 'moe-tokenizer-'))
  const write = (name: string, content: string): string => {
    const path = join(folder, name)
    writeFileSync(path, content)
    return path
  }
  const loaded = loadTokenizer(write('good.json', serializeTokenizer(withSpaces)))
  expect(loaded.hash).toBe(withSpaces.hash)
  expect(loaded.encode(prose.join(' '))).toEqual(withSpaces.encode(prose.join(' ')))

  expect(() => loadTokenizer(write('not.json', '{'))).toThrow(/not\.json/)
  expect(() => loadTokenizer(join(folder, 'none.json'))).toThrow(/none\.json/)
  expect(() => changed((json) => Object.assign(json.model, { type: 'Unigram' }))).toThrow(/model\.type/)
  expect(() => changed((json) => Object.assign(json.model, { byte_fallback: true }))).toThrow(/model\.byte_fallback/)
  expect(() => changed((json) => Object.assign(json, { normalizer: { type: 'Lowercase' } }))).toThrow(/normalizer/)
  expect(() => changed((json) => Object.assign(json.added_tokens[0]!, { lstrip: true }))).toThrow(/added_tokens\.0\.lstrip/)
  expect(() => changed((json) => json.model.merges.push(['zz', 'qq']))).toThrow(/model\.merges\[\d+\].*zz/)
  expect(() => changed((json) => delete json.model.vocab['!'])).toThrow(/"!"/)
})
