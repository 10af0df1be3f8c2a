/**
 * What an experiment shows: spreads over seeds, tokens to reach another arm's loss, and whether that is what the paper found. Pure.
 * It claims no more than the runs do: seeds are compared in pairs, a difference within their interval is called undecided, and one seed
 * alone decides nothing.
 */
import type { ArmResult, ExperimentResult } from './experiments.ts'
import type { PaperResult } from './experiment-templates.ts'

type Spread = NonNullable<ArmResult['validation']>
export type Curve = { tokens: readonly number[]; losses: readonly number[] }

/** Student's t that 95 % lie within, by degrees of freedom from 1: an experiment has at most five seeds. */
const studentT = [12.706, 4.303, 3.182, 2.776] as const

/** Null of no values. */
export function spreadOver(values: readonly number[]): ArmResult['validation'] {
  if (values.length === 0) return null
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1)
  return { mean, min: Math.min(...values), max: Math.max(...values), deviation: values.length > 1 ? Math.sqrt(variance) : null, count: values.length }
}

/** Half the width of the 95 % interval of a mean; null of one value, which says nothing about the others. */
export function halfInterval({ deviation, count }: Spread): number | null {
  return deviation === null ? null : (studentT[Math.min(count - 1, studentT.length) - 1]! * deviation) / Math.sqrt(count)
}

/** Final losses by seed, minus those of another arm with the same seed: data order and budget are alike in a pair, only the knob differs. */
export function pairedDifference(losses: ReadonlyMap<number, number>, others: ReadonlyMap<number, number>): ArmResult['difference'] {
  return spreadOver([...losses].flatMap(([seed, loss]) => (others.has(seed) ? [loss - others.get(seed)!] : [])))
}

/** Tokens at which a curve first came down to `loss`, between its points; null when it never did. */
export function tokensToReach({ tokens, losses }: Curve, loss: number): number | null {
  const at = losses.findIndex((value) => value <= loss)
  if (at < 0) return null
  if (at === 0) return tokens[0]!
  const [before, after] = [losses[at - 1]!, losses[at]!]
  return tokens[at - 1]! + (tokens[at]! - tokens[at - 1]!) * ((before - loss) / (before - after))
}

/** The mean curve of an arm's finished runs, at the points of the first (all arms are evaluated at the same steps). */
export function meanCurve(curves: readonly Curve[]): Curve | null {
  const first = curves[0]
  if (first === undefined) return null
  const same = curves.filter(({ losses }) => losses.length === first.losses.length)
  return { tokens: first.tokens, losses: first.losses.map((_, i) => same.reduce((sum, { losses }) => sum + losses[i]!, 0) / same.length) }
}

/** For every arm but the worst: how soon it reached the worst one's final loss. */
export function reaches(arms: readonly { arm: string; curve: Curve | null; final: number | null }[]): Map<string, NonNullable<ArmResult['tokensToReach']>> {
  const known = arms.filter((one): one is { arm: string; curve: Curve; final: number } => one.curve !== null && one.final !== null)
  const found = new Map<string, NonNullable<ArmResult['tokensToReach']>>()
  if (known.length < 2) return found
  const worst = known.reduce((a, b) => (b.final > a.final ? b : a))
  const budget = worst.curve.tokens.at(-1)!
  for (const { arm, curve } of known) {
    const tokens = arm === worst.arm ? null : tokensToReach(curve, worst.final)
    if (tokens !== null) found.set(arm, { arm: worst.arm, tokens, ratio: tokens / budget })
  }
  return found
}

/**
 * Holds the arms' final losses against the paper's order: it agrees where the paper's better arm is clearly below every other, it differs
 * where it is clearly above one. `difference` is to the best other arm.
 */
export function judge(arms: readonly Pick<ArmResult, 'arm' | 'difference'>[], paper: PaperResult): Pick<ExperimentResult, 'verdict' | 'difference' | 'halfInterval'> {
  const above = arms.flatMap(({ arm, difference }) => (arm === paper.better ? [] : [difference]))
  const known = above.filter((one) => one !== null)
  if (known.length === 0 || known.length < above.length) return { verdict: 'pending', difference: null, halfInterval: null }
  const rival = known.reduce((a, b) => (b.mean < a.mean ? b : a))
  const halves = known.map(halfInterval)
  const clearly = (sign: 1 | -1) => ({ mean }: Spread, i: number): boolean => sign * mean > halves[i]!
  const verdict = halves.includes(null) ? 'oneSeed' : known.every(clearly(1)) ? 'agrees' : known.some(clearly(-1)) ? 'differs' : 'undecided'
  return { verdict, difference: -rival.mean + 0, halfInterval: halfInterval(rival) }
}
