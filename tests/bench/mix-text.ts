/**
 * Text for the benchmark of builds, from one seed: documents of words drawn by Zipf's law from a vocabulary of each domain's own, with
 * sentences and lines. As JSON lines, as much as asked; every 50th document is a near copy of an earlier one.
 */
import { createWriteStream } from 'node:fs'
import { once } from 'node:events'
import { createRandom, type Random } from '#core/shared/random.ts'

const vocabularySize = 60_000
/** Draws by Zipf's law that every word is taken from. */
const drawn = 1 << 20

function makeWords(random: Random): string[] {
  const syllables = Array.from({ length: 300 }, () => String.fromCharCode(...Array.from({ length: 2 + random.nextBelow(2) }, () => 97 + random.nextBelow(26))))
  return Array.from({ length: vocabularySize }, (_, i) => Array.from({ length: 1 + Math.min(3, Math.floor(Math.log10(i + 1))) }, () => syllables[random.nextBelow(syllables.length)]).join(''))
}

/** Writes about `sizeBytes` of documents in `domain`; gives the bytes of text. */
export async function writeTexts(path: string, domain: string, sizeBytes: number): Promise<number> {
  const random = createRandom(1, domain)
  const words = makeWords(random)
  // Frequency 1 / rank: the logarithm of the rank is even.
  const ranks = Uint16Array.from({ length: drawn }, () => Math.floor(Math.exp(random.nextFloat() * Math.log(vocabularySize))))
  const file = createWriteStream(path)
  let [written, documents, last] = [0, 0, '']
  while (written < sizeBytes) {
    const length = 100 + random.nextBelow(900)
    let text = ''
    for (let i = 0; i < length; i++) {
      text += words[ranks[random.nextUint32() % drawn]!]!
      text += i % 13 === 12 ? (i % 5 === 0 ? '.\n' : '. ') : ' '
    }
    if (documents % 50 === 49) text = `${last} again`
    last = text
    written += Buffer.byteLength(text)
    documents++
    if (!file.write(`${JSON.stringify({ id: `${domain}-${documents}`, text })}\n`)) await once(file, 'drain')
  }
  file.end()
  await once(file, 'close')
  return written
}
