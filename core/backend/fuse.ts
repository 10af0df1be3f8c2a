/**
 * Fuses a head's forward with its backward inside one plan, so that a backend which can computes the logits once: the backward is
 * moved up beside the forward where nothing in between could tell. Pure, and plans stay lists of ops: what is fused is only named.
 */
import type { OpRecord, Plan, Tensor } from './backend.ts'
import { opArguments } from './record.ts'

/** Forwards whose next record is their own backward. */
export type Fusion = { readonly plan: Plan; readonly fused: ReadonlySet<OpRecord> }

const touched = (record: OpRecord, how: 'writes' | 'reads'): (Tensor | null)[] => record.tensors.filter((_, i) => opArguments(record.op)[i]![how])
const isShared = (a: readonly (Tensor | null)[], b: readonly (Tensor | null)[]): boolean => a.some((tensor) => tensor !== null && b.includes(tensor))

/** Whether `later` gives the same where it stands and right before `between`. */
function canPass(later: OpRecord, between: readonly OpRecord[]): boolean {
  const [writes, reads] = [touched(later, 'writes'), touched(later, 'reads')]
  return between.every((record) => !isShared(writes, record.tensors) && !isShared(reads, touched(record, 'writes')))
}

/** Whether `backward` is that of `forward`: the same x, weight, targets and lse. */
function isBackwardOf(forward: OpRecord, backward: OpRecord): boolean {
  const [, lse, x, weight, targets] = forward.tensors
  return backward.op === 'headCrossEntropyBackward' && [x, weight, targets, lse].every((tensor, i) => backward.tensors[2 + i] === tensor)
}

/** The plan with every head's backward right after its forward, where that is possible. */
export function fuseHeads(plan: Plan): Fusion {
  const records = [...plan.records]
  const fused = new Set<OpRecord>()
  for (let at = 0; at < records.length; at++) {
    const forward = records[at]!
    if (forward.op !== 'headCrossEntropyForward') continue
    const found = records.findIndex((record, i) => i > at && isBackwardOf(forward, record))
    if (found < 0 || !canPass(records[found]!, records.slice(at + 1, found))) continue
    // Fused, loss and dX are written at the same time: a loss nobody reads later would have given its memory away.
    const [loss] = forward.tensors
    if (loss!.place === 'scratch' && !records.slice(at + 1).some((record) => record.tensors.includes(loss!))) continue
    records.splice(at + 1, 0, ...records.splice(found, 1))
    fused.add(forward)
  }
  return { plan: { name: plan.name, records }, fused }
}
