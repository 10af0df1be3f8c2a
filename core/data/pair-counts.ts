/**
 * How often each pair of neighbouring symbols occurs in counted words, and where, kept exact while pairs are merged. Every symbol has one
 * place; a place belongs to the list of the pair that starts there (linked both ways through the places), so a merge visits just the
 * places of its pair and leaves no entry out of date. All that is known of a place is side by side, half a line of cache, because merges
 * jump from place to place and wait for memory. 32 bytes per byte of the distinct words.
 */
import { createPairTable } from './pair-table.ts'
import { grown, type WordTable } from './word-table.ts'

const none = -1

/** Fields of a place, in 32-bit words: two of them are the weight, how often its word counts. */
const placeWords = 8
const symbol = 0
const next = 1
const previous = 2
/** The pair that starts here, and the neighbours in that pair's list. */
const pairHere = 3
const later = 4
const earlier = 5
const weight = 3 // in 64-bit words

export type PairCounts = {
  /** Pairs so far are numbered 0 to size − 1. */
  readonly size: number
  find(left: number, right: number): number
  leftOf(pair: number): number
  rightOf(pair: number): number
  countOf(pair: number): number
  /** Replaces the pair by the symbol `merged` wherever it stands, left to right where it overlaps itself; `onGained` hears of the pairs that gained places. */
  merge(pair: number, merged: number, onGained: (pair: number) => void): void
}

/** Symbols of all words, one after another, with neighbours and the weight that each place counts. */
function layOut(table: WordTable, counts: Float64Array, byteIds: Int32Array): { places: Int32Array; weights: Float64Array } {
  let length = 0
  for (let word = 0; word < table.size; word++) length += table.bytesOf(word).length
  const weights = new Float64Array((length * placeWords) / 2)
  const places = new Int32Array(weights.buffer)
  let at = 0
  for (let word = 0; word < table.size; word++) {
    const bytes = table.bytesOf(word)
    for (let i = 0; i < bytes.length; i++, at++) {
      places[at * placeWords + symbol] = byteIds[bytes[i]!]!
      places[at * placeWords + previous] = i === 0 ? none : at - 1
      places[at * placeWords + next] = i === bytes.length - 1 ? none : at + 1
      weights[(at * placeWords) / 2 + weight] = counts[word]!
    }
  }
  return { places, weights }
}

/** Counts the pairs of the words of `table`, each as often as `counts` says. */
export function createPairCounts(table: WordTable, wordCounts: Float64Array, byteIds: Int32Array): PairCounts {
  const { places, weights } = layOut(table, wordCounts, byteIds)
  const pairs = createPairTable()
  let counts = new Float64Array(4096)
  let heads = new Int32Array(4096)
  /** Of each pair, the last merge that gave it places. */
  let gainedIn = new Int32Array(4096)
  let merges = 0

  /** Puts the place into the list of the pair that starts there; gives the pair. */
  const link = (place: number): number => {
    const at = place * placeWords
    const pair = pairs.numberOf(places[at + symbol]!, places[places[at + next]! * placeWords + symbol]!)
    if (pair === counts.length) [counts, heads, gainedIn] = [grown(counts), grown(heads), grown(gainedIn)]
    // Its first place, or nothing yet: a head is a place + 1, so that zero is an empty list.
    const head = heads[pair]! - 1
    if (head !== none) places[head * placeWords + earlier] = place
    places[at + later] = head
    places[at + earlier] = none
    heads[pair] = place + 1
    places[at + pairHere] = pair
    counts[pair]! += weights[place * (placeWords / 2) + weight]!
    return pair
  }
  const unlink = (place: number): void => {
    const at = place * placeWords
    const pair = places[at + pairHere]!
    const [before, after] = [places[at + earlier]!, places[at + later]!]
    if (before === none) heads[pair] = after + 1
    else places[before * placeWords + later] = after
    if (after !== none) places[after * placeWords + earlier] = before
    counts[pair]! -= weights[place * (placeWords / 2) + weight]!
  }
  /** The places of a pair; in order where one may overlap the next. */
  const placesOf = (pair: number): number[] => {
    const found: number[] = []
    for (let place = heads[pair]! - 1; place !== none; place = places[place * placeWords + later]!) found.push(place)
    return pairs.leftOf(pair) === pairs.rightOf(pair) ? found.sort((a, b) => a - b) : found
  }
  // From the end, so that lists run forward.
  for (let place = places.length / placeWords - 1; place >= 0; place--) if (places[place * placeWords + next] !== none) link(place)

  return {
    get size() {
      return pairs.size
    },
    find: pairs.find,
    leftOf: pairs.leftOf,
    rightOf: pairs.rightOf,
    countOf: (pair) => counts[pair]!,
    merge(pair, merged, onGained) {
      const [left, right] = [pairs.leftOf(pair), pairs.rightOf(pair)]
      const gained: number[] = []
      merges++
      const linkAnew = (place: number): void => {
        const grownPair = link(place)
        if (gainedIn[grownPair] === merges) return
        gainedIn[grownPair] = merges
        gained.push(grownPair)
      }
      for (const place of placesOf(pair)) {
        const at = place * placeWords
        const second = places[at + next]!
        // In x·x·x the second pair is gone once the first is merged.
        if (places[at + symbol] !== left || second === none || places[second * placeWords + symbol] !== right) continue
        const [before, after] = [places[at + previous]!, places[second * placeWords + next]!]
        if (before !== none) unlink(before)
        if (after !== none) unlink(second)
        places[at + symbol] = merged
        places[second * placeWords + symbol] = none
        places[at + next] = after
        if (after !== none) places[after * placeWords + previous] = place
        if (before !== none) linkAnew(before)
        if (after !== none) linkAnew(place)
      }
      // Its places are merged, or went as the neighbours of one that is: the list as a whole is done with.
      heads[pair] = 0
      counts[pair] = 0
      gained.forEach(onGained)
    },
  }
}
