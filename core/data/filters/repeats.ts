/**
 * Repeated n-grams: a sequence of n tokens that stands many times in a row. With period n, every token of such a run but the first n
 * equals the one n before it; so the longest run of equal pairs tells the number of repeats. Used on documents (dropped) and on
 * instances (their loss is masked), as in OLMoE.
 */

export type Repeats = { period: number; count: number }

/** The first period up to `longest` that repeats `count` times or more; null when none does. O(longest · tokens). */
export function findRepeats(ids: ArrayLike<number>, { count, longest }: { count: number; longest: number }, start = 0, end = ids.length): Repeats | null {
  for (let period = 1; period <= longest; period++) {
    const needed = period * (count - 1)
    if (end - start < needed + period) break
    let equal = 0
    for (let i = start + period; i < end; i++) {
      if (ids[i] !== ids[i - period]) equal = 0
      else if (++equal >= needed) return { period, count }
    }
  }
  return null
}
