/** An op's case (tests/ops/cases.ts) at the size of the benchmark: one table of letters gives the sizes of every op. */
import type { OpCase } from '../ops/cases.ts'

export type Letters = Readonly<Record<'T' | 'D' | 'E' | 'K' | 'S' | 'V' | 'P' | 'flat' | 'sequence', number>> & Readonly<Record<string, number>>

/** One step of 2,048 tokens of width 256, 16 experts of width 256, 4 per token. */
export const cpuLetters: Letters = { T: 2048, D: 256, N: 256, J: 256, C: 64, E: 16, K: 4, S: 8192, R: 8192, X: 8192, Y: 8192, F: 256, V: 8192, P: 1024, W: 256, M: 64, L: 8, flat: 4_000_000, sequence: 512 }

/** The case of an op at bench size: its first one, without optional tensors and with other sizes. */
export function benchCase(first: OpCase, letters: Letters): OpCase {
  const attrs = { ...first.attrs, ...('H' in first.attrs && { H: 4 }), ...('G' in first.attrs && { G: 4 }), ...('sequence' in first.attrs && { sequence: letters.sequence }), ...('capacity' in first.attrs && { capacity: (letters.sequence * letters.K) / letters.E }), ...('assignments' in first.attrs && { assignments: letters.S }) }
  const isGrouped = first.op.startsWith('groupedLinear')
  const isFlat = ['sumOfSquares', 'adamwStep'].includes(first.op)
  const isCached = 'positions' in first.given && 'P' in first.sizes
  // A cache is met by one token of a long text, everything else by a training step.
  const sizes = { ...letters, ...attrs, ...(isFlat && { X: letters.flat }), ...(isCached && { T: 1 }) }
  const even = (): number[] => Array.from({ length: letters.E + 1 }, (_, e) => (e * letters.S) / letters.E)
  const given = { ...first.given, ...(isGrouped && { offsets: even }), ...(isCached && { positions: () => [letters.P - 1] }), ...(first.op === 'routerLossForward' && { counts: () => new Array<number>(letters.E).fill(letters.S / letters.E) }) }
  // Its case works the true log-sum-exp out in JavaScript, which takes minutes at this size; the speed does not depend on it.
  if (first.op === 'headCrossEntropyBackward') Object.assign(given, { lse: () => new Array<number>(letters.T).fill(150) })
  return { ...first, label: 'bench', sizes, attrs, given, optional: [] }
}
