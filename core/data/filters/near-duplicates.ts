/**
 * Near duplicates by MinHash (Broder, 1997) with banding: a signature of 128 minima estimates the Jaccard similarity of two sets of
 * shingles; documents that agree in a whole band of rows are compared. The earliest of a group stays. Memory: 128 · 4 bytes per kept
 * document and 16 numbers in tables, about 0.9 kB.
 */
import type { NumberSet } from './number-set.ts'
import { comparedWords, hashNgrams } from './words.ts'

export const signatureLength = 128
/** 16 bands of 8 rows: a pair of similarity 0.8 shares a band with probability 0.95, one of 0.5 with 0.06. */
const bandCount = 16
const rows = signatureLength / bandCount

/** Odd multipliers and offsets of the 128 hash functions, from one generator. */
const [multipliers, offsets] = (() => {
  let state = 0x2545f491
  const next = (): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
  const draw = (): Uint32Array => Uint32Array.from({ length: signatureLength }, next)
  return [draw().map((value) => value | 1), draw()]
})()

/** The minima of a text's shingles of `shingle` words; null for a text without words, which is like no other. */
export function signatureOf(text: string, shingle: number): Uint32Array | null {
  const hashes = hashNgrams(comparedWords(text), shingle, true)
  if (hashes.length === 0) return null
  const signature = new Uint32Array(signatureLength).fill(0xffffffff)
  for (const hash of hashes) {
    const folded = (hash % 2 ** 32 ^ (hash / 2 ** 32)) >>> 0
    for (let k = 0; k < signatureLength; k++) {
      let value = Math.imul(folded, multipliers[k]!) + offsets[k]!
      value = Math.imul(value ^ (value >>> 15), 0x2c1b3c6d)
      value = (value ^ (value >>> 13)) >>> 0
      if (value < signature[k]!) signature[k] = value
    }
  }
  return signature
}

/** The estimate of two sets' Jaccard similarity: the share of equal minima. */
export function similarityOf(a: ArrayLike<number>, b: ArrayLike<number>, bOffset = 0): number {
  let equal = 0
  for (let k = 0; k < signatureLength; k++) if (a[k] === b[bOffset + k]) equal++
  return equal / signatureLength
}

/** Remembers what it keeps. `find` gives the number of the most similar kept document at or above `similarity`, else keeps this one and gives null. */
export function createNearDuplicates(similarity: number): { find(signature: Uint32Array): { earlier: number; similarity: number } | null } {
  let kept = new Uint32Array(signatureLength * 256)
  let count = 0
  // Document numbers of each band's key; most keys have one.
  const bands = Array.from({ length: bandCount }, () => new Map<number, number | number[]>())
  const keyOf = (signature: Uint32Array, band: number): number => {
    let [a, b] = [band, 0]
    for (let k = band * rows; k < (band + 1) * rows; k++) {
      a = Math.imul(a ^ signature[k]!, 0x9e3779b1)
      a ^= a >>> 15
      b = Math.imul(b ^ signature[k]!, 0x85ebca77)
      b ^= b >>> 13
    }
    return (a >>> 0) * 2 ** 21 + ((b >>> 0) & 0x1fffff)
  }
  return {
    find(signature) {
      const keys = bands.map((_, band) => keyOf(signature, band))
      const compared = new Set<number>()
      let best: { earlier: number; similarity: number } | null = null
      bands.forEach((band, i) => {
        const found = band.get(keys[i]!)
        for (const earlier of found === undefined ? [] : typeof found === 'number' ? [found] : found) {
          if (compared.has(earlier)) continue
          compared.add(earlier)
          const estimate = similarityOf(signature, kept, earlier * signatureLength)
          if (estimate >= similarity && estimate > (best?.similarity ?? 0)) best = { earlier, similarity: estimate }
        }
      })
      if (best !== null) return best
      if ((count + 1) * signatureLength > kept.length) {
        const larger = new Uint32Array(kept.length * 2)
        larger.set(kept)
        kept = larger
      }
      kept.set(signature, count * signatureLength)
      bands.forEach((band, i) => {
        const found = band.get(keys[i]!)
        if (found === undefined) band.set(keys[i]!, count)
        else if (typeof found === 'number') band.set(keys[i]!, [found, count])
        else found.push(count)
      })
      count++
      return null
    },
  }
}

/** How many of a text's n-grams are in `known`; stops at `enough`. */
export function countKnownNgrams(text: string, ngram: number, known: NumberSet, enough = Infinity): number {
  let matches = 0
  for (const hash of hashNgrams(comparedWords(text), ngram)) if (known.has(hash) && ++matches >= enough) break
  return matches
}

/** Adds a text's n-grams to `known`; a text shorter than that adds none. */
export function addNgrams(text: string, ngram: number, known: NumberSet): void {
  for (const hash of hashNgrams(comparedWords(text), ngram)) known.add(hash)
}
