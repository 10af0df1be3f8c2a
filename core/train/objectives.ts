/**
 * What DPO and KTO make of the log-probabilities of a step's answers, in float64: the loss, and its derivative by every answer, which becomes
 * the weight of that answer's token losses in the backward pass. Pure formulas; whoever runs the model brings the log-probabilities.
 *
 * Letters: an answer's log-ratio is r = log π(y|x) − log π_ref(y|x), summed over its tokens; β·r is its implicit reward.
 */

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))
/** log σ(x) without overflow. */
const logSigmoid = (x: number): number => (x >= 0 ? -Math.log1p(Math.exp(-x)) : x - Math.log1p(Math.exp(x)))
const mean = (values: readonly number[]): number => (values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length)

/** `derivatives[i]`: d loss / d log π of answer i. */
export type ObjectiveResult = { loss: number; derivatives: number[]; scalars: Record<string, number> }

export type Answered = { policy: number; reference: number }

/** −log σ(β(r_chosen − r_rejected)), mean over pairs (arXiv 2305.18290, Eq 7). `answers`: chosen and rejected in turn; derivatives likewise. */
export function dpo(answers: readonly Answered[], beta: number): ObjectiveResult {
  const ratios = answers.map(({ policy, reference }) => policy - reference)
  const pairs = Array.from({ length: ratios.length / 2 }, (_, i) => ({ chosen: ratios[2 * i]!, rejected: ratios[2 * i + 1]!, ranks: answers[2 * i]!.policy > answers[2 * i + 1]!.policy }))
  const derivatives = pairs.flatMap(({ chosen, rejected }) => {
    const slope = (beta * sigmoid(-beta * (chosen - rejected))) / pairs.length
    return [-slope, slope]
  })
  return {
    loss: mean(pairs.map(({ chosen, rejected }) => -logSigmoid(beta * (chosen - rejected)))),
    derivatives,
    scalars: {
      rewardChosen: beta * mean(pairs.map(({ chosen }) => chosen)),
      rewardRejected: beta * mean(pairs.map(({ rejected }) => rejected)),
      rewardMargin: beta * mean(pairs.map(({ chosen, rejected }) => chosen - rejected)),
      rewardAccuracy: mean(pairs.map(({ chosen, rejected }) => Number(chosen > rejected))),
      preferenceAccuracy: mean(pairs.map(({ ranks }) => Number(ranks))),
    },
  }
}

export type Labelled = Answered & { desirable: boolean }

/**
 * KTO (arXiv 2402.01306, Eq 7–8): a wanted answer loses λ_D(1 − σ(β(r − z))), an unwanted one λ_U(1 − σ(β(z − r))), mean over answers. z ≥ 0
 * estimates the divergence KL(π‖π_ref) from `mismatched` answers (those to other prompts) and is a constant of the derivative.
 */
export function kto(answers: readonly Labelled[], mismatched: readonly Answered[], options: { beta: number; desirableWeight: number; undesirableWeight: number }): ObjectiveResult {
  const { beta, desirableWeight, undesirableWeight } = options
  const z = Math.max(0, mean(mismatched.map(({ policy, reference }) => policy - reference)))
  const ratios = answers.map(({ policy, reference }) => policy - reference)
  const parts = answers.map(({ desirable }, i) => {
    const sign = desirable ? 1 : -1
    const weight = desirable ? desirableWeight : undesirableWeight
    const value = sigmoid(sign * beta * (ratios[i]! - z))
    return { loss: weight * (1 - value), derivative: (-weight * sign * beta * value * (1 - value)) / answers.length }
  })
  const reward = (wanted: boolean): number => beta * mean(ratios.filter((_, i) => answers[i]!.desirable === wanted))
  const [rewardChosen, rewardRejected] = [reward(true), reward(false)]
  const hasBoth = new Set(answers.map(({ desirable }) => desirable)).size === 2
  return {
    loss: mean(parts.map(({ loss }) => loss)),
    derivatives: parts.map(({ derivative }) => derivative),
    scalars: {
      kl: z,
      ...(answers.some(({ desirable }) => desirable) && { rewardChosen }),
      ...(answers.some(({ desirable }) => !desirable) && { rewardRejected }),
      ...(hasBoth && { rewardMargin: rewardChosen - rewardRejected }),
      rewardAccuracy: mean(ratios.map((ratio, i) => Number(ratio > z === answers[i]!.desirable))),
    },
  }
}
