/**
 * Numbers words (byte strings) 0, 1, 2, … in the order they are first seen: a hash table in flat arrays, so that looking a word up makes
 * no string and no object. The encoder keeps its cache in one, the trainer its counts. It never forgets a word but all at once.
 */

export type WordTable = {
  readonly size: number
  /** The number of the word bytes[start, end); it is `size` as it was before when the word is new. */
  numberOf(bytes: Uint8Array, start: number, end: number): number
  /** The bytes of a word, until the next new word. */
  bytesOf(word: number): Uint8Array
  clear(): void
}

/** The same array with twice the room. */
export function grown<T extends Uint8Array | Int32Array | Uint32Array | Float64Array>(array: T, needed = 0): T {
  const larger = new (array.constructor as new (length: number) => T)(Math.max(array.length * 2, needed))
  larger.set(array)
  return larger
}

export function createWordTable(): WordTable {
  // A slot is a word's number + 1. A word's bytes are pool[starts[word], starts[word + 1]).
  let slots = new Int32Array(4096)
  let hashes = new Int32Array(2048)
  let starts = new Int32Array(2049)
  let pool = new Uint8Array(1 << 14)
  let size = 0

  const isWord = (word: number, bytes: Uint8Array, start: number, length: number): boolean => {
    const from = starts[word]!
    if (starts[word + 1]! - from !== length) return false
    for (let i = 0; i < length; i++) if (pool[from + i] !== bytes[start + i]) return false
    return true
  }
  const grow = (): void => {
    hashes = grown(hashes)
    starts = grown(starts)
    slots = new Int32Array(slots.length * 2)
    const mask = slots.length - 1
    for (let word = 0; word < size; word++) {
      let at = hashes[word]! & mask
      while (slots[at] !== 0) at = (at + 1) & mask
      slots[at] = word + 1
    }
  }
  const add = (bytes: Uint8Array, start: number, end: number, hash: number, at: number): number => {
    const from = starts[size]!
    if (from + end - start > pool.length) pool = grown(pool, from + end - start)
    for (let i = start; i < end; i++) pool[from + i - start] = bytes[i]!
    slots[at] = size + 1
    hashes[size] = hash
    starts[size + 1] = from + end - start
    size++
    if (size === hashes.length) grow()
    return size - 1
  }
  return {
    get size() {
      return size
    },
    numberOf(bytes, start, end) {
      let hash = 0x811c9dc5
      for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
      hash ^= hash >>> 15
      const mask = slots.length - 1
      let at = hash & mask
      for (let slot = slots[at]!; slot !== 0; slot = slots[at]!) {
        if (hashes[slot - 1] === hash && isWord(slot - 1, bytes, start, end - start)) return slot - 1
        at = (at + 1) & mask
      }
      return add(bytes, start, end, hash, at)
    },
    bytesOf: (word) => pool.subarray(starts[word], starts[word + 1]),
    clear() {
      slots.fill(0)
      size = 0
    },
  }
}
