/**
 * Numbers pairs of ids 0, 1, 2, … in the order they are first seen: a hash table in flat arrays. Merges of the encoder and counts of the
 * trainer are arrays indexed by these numbers.
 */
import { grown } from './word-table.ts'

export type PairTable = {
  readonly size: number
  /** The pair's number, −1 when it was never seen. */
  find(left: number, right: number): number
  /** The pair's number; it is `size` as it was before when the pair is new. */
  numberOf(left: number, right: number): number
  leftOf(pair: number): number
  rightOf(pair: number): number
}

export function createPairTable(): PairTable {
  // A slot is a pair's number + 1.
  let slots = new Int32Array(4096)
  let lefts = new Int32Array(2048)
  let rights = new Int32Array(2048)
  let size = 0

  /** The slot of the pair, or the free one where it belongs. */
  const slotOf = (left: number, right: number): number => {
    const mask = slots.length - 1
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca77)
    hash ^= hash >>> 15
    let at = hash & mask
    for (let slot = slots[at]!; slot !== 0; slot = slots[at]!) {
      if (lefts[slot - 1] === left && rights[slot - 1] === right) break
      at = (at + 1) & mask
    }
    return at
  }
  const grow = (): void => {
    lefts = grown(lefts)
    rights = grown(rights)
    slots = new Int32Array(slots.length * 2)
    for (let pair = 0; pair < size; pair++) slots[slotOf(lefts[pair]!, rights[pair]!)] = pair + 1
  }
  return {
    get size() {
      return size
    },
    find: (left, right) => slots[slotOf(left, right)]! - 1,
    numberOf(left, right) {
      const at = slotOf(left, right)
      if (slots[at] !== 0) return slots[at]! - 1
      slots[at] = size + 1
      lefts[size] = left
      rights[size] = right
      size++
      if (size === lefts.length) grow()
      return size - 1
    },
    leftOf: (pair) => lefts[pair]!,
    rightOf: (pair) => rights[pair]!,
  }
}
