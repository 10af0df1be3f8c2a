/** From ids and targets to the micro-batches of a step: what every loss weighs, and how the step is cut. */
import type { MicroBatch } from './trainer.ts'

/** Rows of a step, [rows × sequence]; a target < 0 carries no loss. */
export type TokenRows = { ids: Int32Array; targets: Int32Array }

/**
 * Cuts `rows` into micro-batches of `microTokens` tokens. Every target weighs 1/(targets of all rows together), so the step's loss is
 * their mean however it is cut.
 */
export function microBatchesOf(rows: TokenRows, microTokens: number): MicroBatch[] {
  return weighted([rows], microTokens)
}

/** The same over several batches that count as one (a held-out set). */
export function weighted(batches: readonly TokenRows[], microTokens: number): MicroBatch[] {
  const counted = batches.reduce((sum, { targets }) => targets.reduce((count, target) => count + Number(target >= 0), sum), 0)
  return batches.flatMap(({ ids, targets }) =>
    Array.from({ length: ids.length / microTokens }, (_, i) => {
      const part = targets.subarray(i * microTokens, (i + 1) * microTokens)
      return { ids: ids.subarray(i * microTokens, (i + 1) * microTokens), targets: part, lossWeights: Float32Array.from(part, (target) => (target >= 0 ? 1 / counted : 0)) }
    }),
  )
}

/** Next-token targets inside each sequence; with `mask`, a target counts where the mask of its own token is 1. */
export function nextTokenRows(ids: Int32Array, sequence: number, mask?: Int32Array): TokenRows {
  const targets = Int32Array.from(ids, (_, t) => ((t + 1) % sequence !== 0 && (!mask || mask[t + 1] === 1) ? ids[t + 1]! : -1))
  return { ids, targets }
}
