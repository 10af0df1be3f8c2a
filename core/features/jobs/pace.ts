/** How fast steps go by, for the estimate of what is left: the median of recent steps, which a pause or a check-up does not move. */

export type Pace = {
  /** Told that `step` was finished at wall-clock `atMs`. */
  record(step: number, atMs: number): void
  /** Seconds for so many more steps; null before two steps were seen. */
  secondsFor(steps: number): number | null
}

const recentCount = 31

export function createPace(): Pace {
  const stepMs: number[] = []
  let last: { step: number; atMs: number } | null = null
  return {
    record(step, atMs) {
      if (last !== null && step > last.step) {
        stepMs.push((atMs - last.atMs) / (step - last.step))
        if (stepMs.length > recentCount) stepMs.shift()
      }
      last = { step, atMs }
    },
    secondsFor(steps) {
      if (stepMs.length === 0) return null
      const sorted = stepMs.toSorted((a, b) => a - b)
      return (steps * sorted[sorted.length >> 1]!) / 1000
    },
  }
}
