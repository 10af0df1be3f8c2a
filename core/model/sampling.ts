/**
 * From logits to a token: temperature, nucleus (top-p), seeded draw. Greedy at temperature 0.
 * The probability reported is the model's own (temperature 1, nothing cut), so that it means the same under every setting.
 */
import type { Random } from '#core/shared/random.ts'

export type SamplingSettings = { temperature: number; topP: number }

/** Softmax of logits/temperature in float64. */
function softmax(logits: ArrayLike<number>, temperature: number): Float64Array {
  let max = -Infinity
  for (let i = 0; i < logits.length; i++) max = Math.max(max, logits[i]!)
  const probabilities = new Float64Array(logits.length)
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += probabilities[i] = Math.exp((logits[i]! - max) / temperature)
  for (let i = 0; i < logits.length; i++) probabilities[i]! /= sum
  return probabilities
}

/** Index of the largest logit; the lower index on a tie. */
function argmax(logits: ArrayLike<number>): number {
  let best = 0
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i
  return best
}

/** Draws from the smallest set of most probable tokens whose mass reaches topP (arXiv 1904.09751). */
function drawNucleus(probabilities: Float64Array, topP: number, random: Random): number {
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b]! - probabilities[a]! || a - b)
  let mass = 0
  let count = 0
  while (count < order.length && (count === 0 || mass < topP)) mass += probabilities[order[count++]!]!
  let point = random.nextFloat() * mass
  for (let i = 0; i < count; i++) {
    point -= probabilities[order[i]!]!
    if (point < 0) return order[i]!
  }
  return order[count - 1]!
}

/** Picks the next token from `logits` [V]; `probability` is what the model gave it. */
export function sampleToken(logits: ArrayLike<number>, settings: SamplingSettings, random: Random): { id: number; probability: number } {
  const plain = softmax(logits, 1)
  const { temperature, topP } = settings
  const id = temperature === 0 ? argmax(logits) : drawNucleus(temperature === 1 ? plain : softmax(logits, temperature), topP, random)
  return { id, probability: plain[id]! }
}
