/**
 * Near duplicates by MinHash (Broder, 1997) with banding: a signature of 128 minima estimates the Jaccard similarity of two sets of
 * shingles; documents that agree in a whole band of rows are compared. The earliest of a group stays. Memory: 16 places in a table per kept
 * document, 170 to 340 bytes; signatures stay on disk.
 */
import { comparedWords, hashNgrams } from './words.ts'

export const signatureLength = 128
/** 16 bands of 8 rows: a pair of similarity 0.8 shares a band with probability 0.95, one of 0.5 with 0.06. */
const bandCount = 16
const rows = signatureLength / bandCount
/** Documents that a band key lists. More have it when they share boilerplate: then each is compared with the first ones. */
const listedPerKey = 8

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
export function similarityOf(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let equal = 0
  for (let k = 0; k < signatureLength; k++) if (a[k] === b[k]) equal++
  return equal / signatureLength
}

/** The key of one band of a signature: 32 bits, as a false match only costs a comparison. */
function bandKey(signature: Uint32Array, band: number): number {
  let key = Math.imul(band + 1, 0x9e3779b1)
  for (let k = band * rows; k < (band + 1) * rows; k++) {
    key = Math.imul(key ^ signature[k]!, 0x85ebca77)
    key ^= key >>> 15
  }
  return key
}

/** Documents by band key in one flat table: 8 bytes per band of a document. Of one key the first few are listed, so that looking up stays short. */
function createBandTable() {
  // A slot is a key and a document + 1.
  let keys = new Int32Array(1 << 15)
  let documents = new Int32Array(1 << 15)
  let size = 0
  const put = (key: number, document: number): void => {
    const mask = keys.length - 1
    let at = key & mask
    for (let equal = 0; documents[at] !== 0; at = (at + 1) & mask) if (keys[at] === key && ++equal === listedPerKey) return
    keys[at] = key
    documents[at] = document + 1
    size++
  }
  const grow = (): void => {
    const [oldKeys, oldDocuments] = [keys, documents]
    keys = new Int32Array(oldKeys.length * 2)
    documents = new Int32Array(oldKeys.length * 2)
    size = 0
    // In the order of the documents, or other ones would be listed; a slot's order within its key is theirs already.
    oldDocuments.forEach((document, at) => document !== 0 && put(oldKeys[at]!, document - 1))
  }
  return {
    add(key: number, document: number): void {
      if (size * 4 > keys.length * 3) grow()
      put(key, document)
    },
    each(key: number, visit: (document: number) => void): void {
      const mask = keys.length - 1
      for (let at = key & mask; documents[at] !== 0; at = (at + 1) & mask) if (keys[at] === key) visit(documents[at]! - 1)
    },
  }
}

export type NearDuplicate = { earlier: number; similarity: number }

/**
 * Remembers what it keeps, numbered from 0: not the signatures, which `signatureOfKept` reads again (from disk) when two are to be compared.
 * `find` gives the most similar kept document at or above `similarity`, else keeps this one and gives null.
 */
export function createNearDuplicates(similarity: number, signatureOfKept: (kept: number) => Uint32Array): { find(signature: Uint32Array): NearDuplicate | null } {
  const table = createBandTable()
  let count = 0
  return {
    find(signature) {
      const keys = Array.from({ length: bandCount }, (_, band) => bandKey(signature, band))
      const candidates = new Set<number>()
      for (const key of keys) table.each(key, (document) => candidates.add(document))
      let best: NearDuplicate | null = null
      for (const earlier of candidates) {
        const estimate = similarityOf(signature, signatureOfKept(earlier))
        if (estimate >= similarity && estimate > (best?.similarity ?? 0)) best = { earlier, similarity: estimate }
      }
      if (best !== null) return best
      for (const key of keys) table.add(key, count)
      count++
      return null
    },
  }
}
