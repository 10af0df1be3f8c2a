/** The tokenizer against Hugging Face's own JavaScript implementation on hard text, its trainer, and its file format. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { expect, test } from 'vitest'
import { trainTokenizer } from '#core/data/bpe-trainer.ts'
import { loadTokenizer } from '#core/data/tokenizer.ts'
import { createRandom } from '#core/shared/random.ts'

const prose = [
  'The whale, the white whale! It was the whale that they had hunted for three years and the whale had hunted them.',
  "We don't know what they'll say; it's what we've said, and I'm sure she'd agree that they're right.",
  'def encode(self, text):\n    """Returns ids."""\n    return [self.vocab[token] for token in text.split()]\n\n\nclass Encoder(object):\n\tpass\n',
  '床前明月光，疑是地上霜。举头望明月，低头思故乡。春眠不觉晓，处处闻啼鸟。',
  'Ünïcödé naïve café, 12345 67.89 %$#@! «quotes» “curly” — dash… ½ ² ٣ ৪',
]
const tokenizer = trainTokenizer(prose, { vocabularySize: 420, specialTokens: ['<|endoftext|>', '<|padding|>'] })
const reference = new HuggingFaceTokenizer(JSON.parse(tokenizer.json) as object, {})

const hard = [
  '', ' ', '   ', '\n\n\n', '\t \n x', 'a', ' a', '  a  b   c    ', "it's IT'S I'll we'VE 'd 's", '\r\n\r\n  \r', 'e\u0301 \u00e9 \u1e9b\u0323 \u212b',
  '👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽', '一二三 四五\u3000六', 'عربي עברית ไทย', '\u0000\u0001\u007f\u0080\u009f', '\u200b\u200d\ufeff\u2028\u2029', 'x'.repeat(300), ' '.repeat(200),
  '<|endoftext|>', 'a<|endoftext|>b<|padding|> <|endoftext|', '¼ⅷ٣৪①', 'snake_case camelCase kebab-case', 'ﬁ ligature ŀ', '한국어 조합 한국어',
]

test.each([...hard, ...prose].map((text) => ({ text })))('ids equal Hugging Face on $text', ({ text }) => {
  expect(tokenizer.encode(text)).toEqual(reference.encode(text, { add_special_tokens: false }).ids)
})

test('ids equal Hugging Face on random strings', () => {
  const random = createRandom(5, 'text')
  const alphabet = [...' \n\t.,\'"aéßžЖ漢字かなع١½²👍🏽\u0301\u200dxyz019_-+'.normalize('NFD')]
  for (let round = 0; round < 300; round++) {
    const text = Array.from({ length: 1 + random.nextBelow(60) }, () => alphabet[random.nextBelow(alphabet.length)]).join('')
    expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(reference.encode(text, { add_special_tokens: false }).ids)
  }
})

test('decoding gives the text back (NFC), whole or token by token', () => {
  for (const text of [...hard, ...prose]) {
    const ids = tokenizer.encode(text)
    expect(tokenizer.decode(ids)).toBe(text.normalize('NFC'))
    const decoder = tokenizer.createDecoder()
    expect(ids.map((id) => decoder.push(id)).join('') + decoder.end()).toBe(text.normalize('NFC'))
  }
})

test('a lone surrogate becomes the replacement character', () => {
  expect(tokenizer.decode(tokenizer.encode('a\ud800b'))).toBe('a\ufffdb')
})

test('a decoder holds back bytes of an unfinished character', () => {
  const decoder = tokenizer.createDecoder()
  const ids = tokenizer.encode('👍')
  expect(ids.length).toBeGreaterThan(1)
  expect(ids.slice(0, -1).map((id) => decoder.push(id)).join('')).toBe('')
  expect(decoder.push(ids.at(-1)!)).toBe('👍')
})

test('training is deterministic, merges the most frequent pair first, and stops when pairs run out', () => {
  const again = trainTokenizer(prose, { vocabularySize: 420, specialTokens: ['<|endoftext|>', '<|padding|>'] })
  expect(again.hash).toBe(tokenizer.hash)
  const tiny = trainTokenizer(['abababab'], { vocabularySize: 1000, specialTokens: [] })
  expect(tiny.vocabularySize).toBe(256 + 3)
  expect(tiny.encode('abababab')).toHaveLength(1)
  expect(() => trainTokenizer(prose, { vocabularySize: 100, specialTokens: [] })).toThrow(/at least 256/)
})

test('tokenizer.json: saved and loaded it is the same; what cannot be read is named', () => {
  const folder = mkdtempSync(join(tmpdir(), 'moe-tokenizer-'))
  const write = (name: string, content: unknown): string => {
    const path = join(folder, name)
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
    return path
  }
  const loaded = loadTokenizer(write('good.json', tokenizer.json))
  expect(loaded.hash).toBe(tokenizer.hash)
  expect(loaded.encode(prose.join(' '))).toEqual(tokenizer.encode(prose.join(' ')))

  const json = JSON.parse(tokenizer.json) as { model: { vocab: Record<string, number>; merges: unknown[]; type: string } }
  expect(() => loadTokenizer(write('not.json', '{'))).toThrow(/not\.json.*is not JSON/)
  expect(() => loadTokenizer(write('unigram.json', { ...json, model: { ...json.model, type: 'Unigram' } }))).toThrow(/model\.type/)
  expect(() => loadTokenizer(write('merge.json', { ...json, model: { ...json.model, merges: [['zz', 'qq']] } }))).toThrow(/model\.merges\.0/)
  const { '!': _byte, ...withoutByte } = json.model.vocab
  expect(() => loadTokenizer(write('hole.json', { ...json, model: { ...json.model, vocab: withoutByte } }))).toThrow(/no token has id|byte 33/)
})
