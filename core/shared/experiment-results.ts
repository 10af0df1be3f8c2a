/**
 * What an experiment shows: spreads over seeds, tokens to reach another arm's loss, and whether that is what the paper found. Pure.
 * It claims no more than the runs do: a difference within the noise of the seeds is called undecided.
 */
import type { ArmResult, ExperimentResult } from './experiments.ts'
import type { PaperResult } from './experiment-templates.ts'

export type Curve = { tokens: readonly number[]; losses: readonly number[] }

/** With one seed: nats per token that another seed alone may well make of a small model. */
const oneSeedNoise = 0.01

/** Null of no values. */
export function spreadOver(values: readonly number[]): ArmResult['validation'] {
  if (values.length === 0) return null
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(1, values.length - 1)
  return { mean, min: Math.min(...values), max: Math.max(...values), deviation: values.length > 1 ? Math.sqrt(variance) : null, count: values.length }
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

/** Holds the arms' final losses against the paper's order. */
export function judge(arms: readonly Pick<ArmResult, 'arm' | 'validation'>[], paper: PaperResult): Pick<ExperimentResult, 'verdict' | 'difference'> {
  const better = arms.find(({ arm }) => arm === paper.better)?.validation
  const others = arms.filter(({ arm }) => arm !== paper.better).map(({ validation }) => validation)
  if (!better || others.length === 0 || others.some((other) => other === null)) return { verdict: 'pending', difference: null }
  const rival = others.reduce((a, b) => (b!.mean < a!.mean ? b : a))!
  const difference = better.mean - rival.mean
  const error = (of: NonNullable<ArmResult['validation']>): number => (of.deviation === null ? oneSeedNoise / 2 : (of.deviation * 2) / Math.sqrt(of.count))
  const noise = Math.hypot(error(better), error(rival))
  if (Math.abs(difference) <= noise) return { verdict: 'undecided', difference }
  return { verdict: difference < 0 ? 'agrees' : 'differs', difference }
}
