/** From token ids to the arrays of a training step: next-token targets inside each sequence, and the weight of every loss. */
import type { MicroBatch } from './trainer.ts'

/**
 * Micro-batches of `perMicro` sequences of `sequence` tokens. The target of a token is the next one of its own sequence; it counts
 * when `mask` (by sequence and token, default all) is 1 at the target. Every counted loss weighs 1/(number counted in all), so that
 * the step's loss is their mean. Sequences shorter than `sequence`, and missing ones in the last micro-batch, are padded without loss.
 */
export function microBatchesOf(sequences: readonly Int32Array[], sequence: number, perMicro: number, mask?: (index: number, token: number) => boolean): MicroBatch[] {
  const micros: MicroBatch[] = []
  let counted = 0
  for (let from = 0; from < sequences.length; from += perMicro) {
    const ids = new Int32Array(perMicro * sequence)
    const targets = new Int32Array(perMicro * sequence).fill(-1)
    sequences.slice(from, from + perMicro).forEach((tokens, i) => {
      ids.set(tokens, i * sequence)
      for (let t = 0; t + 1 < tokens.length; t++) {
        if (mask && !mask(from + i, t + 1)) continue
        targets[i * sequence + t] = tokens[t + 1]!
        counted++
      }
    })
    micros.push({ ids, targets, lossWeights: new Float32Array(perMicro * sequence) })
  }
  for (const { targets, lossWeights } of micros) targets.forEach((target, t) => (lossWeights[t] = target >= 0 ? 1 / counted : 0))
  return micros
}
