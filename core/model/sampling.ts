/**
 * From logits to a token: temperature, nucleus (top-p), seeded draw. Greedy at temperature 0.
 * The probabilities reported are the model's own (temperature 1, nothing cut), so that they mean the same under every setting.
 * Only as many tokens are sorted as a nucleus needs, and none without one: a vocabulary is long, and this runs for every token made.
 */
import type { Random } from '#core/shared/random.ts'

export type SamplingSettings = { temperature: number; topP: number }
export type Sample = { id: number; logProbability: number }

/** Index of the largest logit; the lower index on a tie. */
export function argmax(logits: ArrayLike<number>): number {
  let best = 0
  let top = logits[0]!
  for (let i = 1; i < logits.length; i++) {
    if (logits[i]! > top) top = logits[(best = i)]!
  }
  return best
}

/** e^((logit − largest) / temperature) of each in float64, and their sum. */
function weigh(logits: ArrayLike<number>, temperature: number): { weights: Float64Array; sum: number } {
  const max = logits[argmax(logits)]!
  const weights = new Float64Array(logits.length)
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += weights[i] = Math.exp((logits[i]! - max) / temperature)
  return { weights, sum }
}

/** log Σ e^logit in float64. */
function logSumExp(logits: ArrayLike<number>): number {
  const max = logits[argmax(logits)]!
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - max)
  return max + Math.log(sum)
}

/** Indices of the largest weights, largest first (the lower index on a tie), of which the weights reach `mass`; all where none do. */
function largestThatReach(weights: Float64Array, mass: number): number[] {
  // Weights are relative to the largest, which is 1: a few rounds of lower and lower bars find enough of them.
  for (let bar = 0.05; bar > 1e-12; bar *= 0.05) {
    const above: number[] = []
    let sum = 0
    for (let i = 0; i < weights.length; i++) {
      if (weights[i]! < bar) continue
      above.push(i)
      sum += weights[i]!
    }
    if (sum > mass) return above.sort((a, b) => weights[b]! - weights[a]! || a - b)
  }
  return Array.from(weights.keys()).sort((a, b) => weights[b]! - weights[a]! || a - b)
}

/** Ids [0, weights.length) where nothing is cut, else the smallest set of most probable tokens whose mass reaches topP (arXiv 1904.09751). */
function nucleus(weights: Float64Array, all: number, topP: number): { ids: number[] | null; mass: number } {
  if (topP >= 1) return { ids: null, mass: all }
  const ids: number[] = []
  let mass = 0
  for (const i of largestThatReach(weights, topP * all)) {
    if (mass >= topP * all) break
    mass += weights[i]!
    ids.push(i)
  }
  return { ids, mass }
}

function drawNucleus(logits: ArrayLike<number>, { temperature, topP }: SamplingSettings, random: Random): number {
  const { weights, sum } = weigh(logits, temperature)
  const { ids, mass } = nucleus(weights, sum, topP)
  const count = ids?.length ?? weights.length
  let point = random.nextFloat() * mass
  let last = 0
  for (let at = 0; at < count; at++) {
    const i = ids ? ids[at]! : at
    const weight = weights[i]!
    if (weight === 0) continue
    last = i
    point -= weight
    if (point < 0) break
  }
  return last
}

/** Picks the next token from `logits` [V]. */
export function sampleToken(logits: ArrayLike<number>, settings: SamplingSettings, random: Random): Sample {
  const id = settings.temperature === 0 ? argmax(logits) : drawNucleus(logits, settings, random)
  return scoreToken(logits, id)
}

/** A given token as if it had been drawn. */
export const scoreToken = (logits: ArrayLike<number>, id: number): Sample => ({ id, logProbability: logits[id]! - logSumExp(logits) })

/** The `count` most probable tokens, most probable first. */
export function mostProbable(logits: ArrayLike<number>, count: number): Sample[] {
  if (count === 0) return []
  const best: number[] = []
  for (let i = 0; i < logits.length; i++) {
    if (best.length === count && !(logits[i]! > logits[best.at(-1)!]!)) continue
    let at = best.length
    while (at > 0 && logits[i]! > logits[best[at - 1]!]!) at--
    best.splice(at, 0, i)
    if (best.length > count) best.pop()
  }
  const all = logSumExp(logits)
  return best.map((id) => ({ id, logProbability: logits[id]! - all }))
}
