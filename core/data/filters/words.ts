/** Words: as white space separates them (shares of frequent words in code), and as what two texts have in common (letters and digits, lower case). */

const isSpace = (code: number): boolean => code === 32 || (code >= 9 && code <= 13) || code === 0xa0 || code === 0x1680 || (code >= 0x2000 && code <= 0x200a) || code === 0x2028 || code === 0x2029 || code === 0x202f || code === 0x205f || code === 0x3000 || code === 0xfeff

/** Number of words of a text: what matches \S+. */
export function countWords(text: string): number {
  let [count, wasSpace] = [0, true]
  for (let i = 0; i < text.length; i++) {
    const space = isSpace(text.charCodeAt(i))
    if (wasSpace && !space) count++
    wasSpace = space
  }
  return count
}

/** Shares that the most frequent word and the two most frequent together have of all words; zeros for a text without words. */
export function frequentWordShares(text: string): { top: number; topTwo: number } {
  const counts = new Map<string, number>()
  let words = 0
  for (const [word] of text.matchAll(/\S+/g)) {
    words++
    counts.set(word, (counts.get(word) ?? 0) + 1)
  }
  if (words === 0) return { top: 0, topTwo: 0 }
  let [first, second] = [0, 0]
  for (const count of counts.values()) {
    if (count > first) [first, second] = [count, first]
    else if (count > second) second = count
  }
  return { top: first / words, topTwo: (first + second) / words }
}

/** The words that comparisons of texts go by: case, punctuation and spacing make no difference; a Chinese character is a word. */
export function comparedWords(text: string): string[] {
  return text.toLowerCase().match(/\p{Script=Han}|[^\P{L}\p{Script=Han}]+|\p{N}+/gu) ?? []
}

/** 32-bit hash of a word (FNV-1a with a final mix). */
export function hashWord(word: string, seed: number): number {
  let hash = (0x811c9dc5 ^ seed) >>> 0
  for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  return (hash ^ (hash >>> 13)) >>> 0
}

/** One number below 2⁵³ for each n words in a row: two 32-bit hashes of which 53 bits are kept. A shorter text has one for all its words if `whole`. */
export function hashNgrams(words: readonly string[], n: number, whole = false): Float64Array {
  const length = words.length < n ? (whole && words.length > 0 ? words.length : 0) : n
  if (length === 0) return new Float64Array(0)
  const [low, high] = [words.map((word) => hashWord(word, 0)), words.map((word) => hashWord(word, 0x9e3779b9))]
  const result = new Float64Array(words.length - length + 1)
  for (let i = 0; i < result.length; i++) {
    let [a, b] = [0, 0]
    for (let k = i; k < i + length; k++) {
      a = Math.imul(a ^ low[k]!, 0x9e3779b1)
      a = (a << 13) | (a >>> 19)
      b = Math.imul(b ^ high[k]!, 0x85ebca77)
      b = (b << 15) | (b >>> 17)
    }
    result[i] = (a >>> 0) * 2 ** 21 + ((b >>> 0) & 0x1fffff)
  }
  return result
}

/** hashNgrams of a text's compared words: none for a text shorter than `n`. */
export function ngramsOf(text: string, n: number): Float64Array {
  return hashNgrams(comparedWords(text), n)
}
