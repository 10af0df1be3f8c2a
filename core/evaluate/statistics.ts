/** Means and ratios with their standard errors over items, which are taken as a sample of what the task is about. */
import type { Measure } from '#core/shared/evaluations.ts'

/** Mean, and the sample's standard deviation over √n. */
export function meanOf(values: readonly number[]): Measure {
  const n = values.length
  const value = values.reduce((sum, one) => sum + one, 0) / n
  const variance = values.reduce((sum, one) => sum + (one - value) ** 2, 0) / (n - 1)
  return { value, standardError: n < 2 ? null : Math.sqrt(variance / n) }
}

/** Σy / Σx, and the standard error of a ratio of sums (Cochran, Sampling Techniques, section 6.4). */
export function ratioOf(ys: readonly number[], xs: readonly number[]): Measure {
  const n = ys.length
  const total = xs.reduce((sum, x) => sum + x, 0)
  const value = ys.reduce((sum, y) => sum + y, 0) / total
  const residual = ys.reduce((sum, y, i) => sum + (y - value * xs[i]!) ** 2, 0)
  return { value, standardError: n < 2 ? null : Math.sqrt((residual * n) / (n - 1)) / total }
}
