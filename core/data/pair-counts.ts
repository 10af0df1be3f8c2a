/**
 * How often each pair of neighbouring symbols occurs in counted words, and where, kept exact while pairs are merged. Every symbol has one
 * place in flat arrays; a place belongs to the list of the pair that starts there (linked both ways through the places), so a merge
 * visits just the places of its pair and leaves no entry out of date. About 40 bytes per byte of the distinct words.
 */
import { createPairTable } from './pair-table.ts'
import { grown, type WordTable } from './word-table.ts'

const none = -1

export type PairCounts = {
  /** Pairs so far are numbered 0 to size − 1. */
  readonly size: number
  find(left: number, right: number): number
  leftOf(pair: number): number
  rightOf(pair: number): number
  countOf(pair: number): number
  /** Replaces the pair by the symbol `merged` wherever it stands, left to right where it overlaps itself; gives the pairs that gained places. */
  merge(pair: number, merged: number): number[]
}

/** Symbols of all words, one after another, with neighbours and the weight that each place counts. */
function layOut(table: WordTable, counts: Float64Array, byteIds: Int32Array) {
  let length = 0
  for (let word = 0; word < table.size; word++) length += table.bytesOf(word).length
  const places = { symbols: new Int32Array(length), next: new Int32Array(length), previous: new Int32Array(length), weights: new Float64Array(length) }
  let at = 0
  for (let word = 0; word < table.size; word++) {
    const bytes = table.bytesOf(word)
    const last = at + bytes.length - 1
    for (let i = 0; i < bytes.length; i++, at++) {
      places.symbols[at] = byteIds[bytes[i]!]!
      places.previous[at] = i === 0 ? none : at - 1
      places.next[at] = at === last ? none : at + 1
      places.weights[at] = counts[word]!
    }
  }
  return places
}

/** Counts the pairs of the words of `table`, each as often as `counts` says. */
export function createPairCounts(table: WordTable, wordCounts: Float64Array, byteIds: Int32Array): PairCounts {
  const { symbols, next, previous, weights } = layOut(table, wordCounts, byteIds)
  const pairs = createPairTable()
  let counts = new Float64Array(4096)
  let heads = new Int32Array(4096)
  // Of each place: its pair, and its neighbours in that pair's list.
  const pairAt = new Int32Array(symbols.length)
  const later = new Int32Array(symbols.length)
  const earlier = new Int32Array(symbols.length)

  const link = (place: number): number => {
    const pair = pairs.numberOf(symbols[place]!, symbols[next[place]!]!)
    if (pair === counts.length) [counts, heads] = [grown(counts), grown(heads)]
    // Its first place, or nothing yet: a head is a place + 1, so that zero is an empty list.
    const head = heads[pair]! - 1
    if (head !== none) earlier[head] = place
    later[place] = head
    earlier[place] = none
    heads[pair] = place + 1
    pairAt[place] = pair
    counts[pair]! += weights[place]!
    return pair
  }
  const unlink = (place: number): void => {
    const pair = pairAt[place]!
    const [before, after] = [earlier[place]!, later[place]!]
    if (before === none) heads[pair] = after + 1
    else later[before] = after
    if (after !== none) earlier[after] = before
    counts[pair]! -= weights[place]!
  }
  /** The places of a pair; in order where one may overlap the next. */
  const placesOf = (pair: number): number[] => {
    const places: number[] = []
    for (let place = heads[pair]! - 1; place !== none; place = later[place]!) places.push(place)
    return pairs.leftOf(pair) === pairs.rightOf(pair) ? places.sort((a, b) => a - b) : places
  }
  // From the end, so that lists run forward.
  for (let place = symbols.length - 1; place >= 0; place--) if (next[place] !== none) link(place)

  return {
    get size() {
      return pairs.size
    },
    find: pairs.find,
    leftOf: pairs.leftOf,
    rightOf: pairs.rightOf,
    countOf: (pair) => counts[pair]!,
    merge(pair, merged) {
      const [left, right] = [pairs.leftOf(pair), pairs.rightOf(pair)]
      const gained = new Set<number>()
      for (const place of placesOf(pair)) {
        const second = next[place]!
        // In x·x·x the second pair is gone once the first is merged.
        if (symbols[place] !== left || second === none || symbols[second] !== right) continue
        const [before, after] = [previous[place]!, next[second]!]
        unlink(place)
        if (before !== none) unlink(before)
        if (after !== none) unlink(second)
        symbols[place] = merged
        symbols[second] = none
        next[place] = after
        if (after !== none) previous[after] = place
        if (before !== none) gained.add(link(before))
        if (after !== none) gained.add(link(place))
      }
      return [...gained]
    },
  }
}
