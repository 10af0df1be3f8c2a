/**
 * The most probable next token after every token, for token accuracy: logits of some rows at a time, so that no T × V matrix is ever there. Made of
 * ops that there are: a router's softmax and top-1 do over a vocabulary what they do over experts.
 */
import { persistent, type Backend, type Recording, type Tensor } from '#core/backend/backend.ts'

const rowsAtATime = 256

export type Predictions = {
  /** To be allocated; `outputs` [≤ 256, 1] each, in token order. */
  tensors: Tensor[]
  outputs: Tensor[]
  record(b: Recording, final: Tensor, head: Tensor): void
  initialise(backend: Backend): Promise<void>
}

/** Declares the tensors for `tokens` tokens. */
export function createPredictions(tokens: number): Predictions {
  const parts = Array.from({ length: Math.ceil(tokens / rowsAtATime) }, (_, i) => {
    const count = Math.min(rowsAtATime, tokens - i * rowsAtATime)
    return { first: i * rowsAtATime, count, rows: persistent(`predictedRows.${i}`, [count], 'i32'), predicted: persistent(`predicted.${i}`, [count, 1], 'i32') }
  })
  return {
    tensors: parts.flatMap(({ rows, predicted }) => [rows, predicted]),
    outputs: parts.map(({ predicted }) => predicted),
    record(b, final, head) {
      for (const { count, rows, predicted } of parts) {
        const x = b.scratch('someFinal', [count, final.shape[1]!])
        b.gatherRowsForward({ y: x, x: final, rows })
        const logits = b.scratch('someLogits', [count, head.shape[0]!])
        b.linearForward({ y: logits, x, weight: head })
        const probs = b.scratch('someProbs', logits.shape)
        b.routerSoftmaxForward({ probs, lse: b.scratch('someLse', [count]), logits })
        b.routerTopKForward({ experts: predicted, probs })
      }
    },
    async initialise(backend) {
      for (const { first, count, rows } of parts) await backend.write(rows, Int32Array.from({ length: count }, (_, i) => first + i))
    },
  }
}
