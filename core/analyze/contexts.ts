/**
 * Examples of where an expert fires: for every expert of every layer the places of its strongest gates, and a sample of all places where it is
 * first choice, each with the tokens around it. The sample is a reservoir: every place is as likely to stay, however long the text is.
 */
import { createRandom } from '#core/shared/random.ts'

/** Examples kept of each kind. */
export const examplesKept = 6
/** Tokens kept on each side. */
export const contextTokens = 12
const width = 2 * contextTokens + 1

/** One place: the ids around it (`at` is its own) and the expert's gate there. */
export type Example = { ids: number[]; at: number; weight: number; domain: number }
export type Contexts = {
  /** Tells of one more place where `expert` of `layer` is first choice: token `t` of the sequence in ids[from, to). */
  offer(layer: number, expert: number, weight: number, ids: Int32Array, from: number, t: number, to: number, domain: number): void
  strongest(layer: number, expert: number): Example[]
  sample(layer: number, expert: number): Example[]
}

/** Bytes that the examples of a model take. */
export const contextBytes = (layers: number, experts: number): number => layers * experts * (2 * examplesKept * (4 * width + 12) + 8)

export function createContexts(layers: number, experts: number): Contexts {
  const slots = layers * experts * 2 * examplesKept
  const windows = new Int32Array(slots * width).fill(-1)
  const weights = new Float32Array(slots)
  const domains = new Int32Array(slots)
  const seen = new Uint32Array(layers * experts)
  /** The weakest gate among the strongest, which a stronger one replaces. */
  const weakest = new Float32Array(layers * experts)
  const random = createRandom(0, 'analyze/contexts')

  function keep(slot: number, ...[weight, ids, from, t, to, domain]: [number, Int32Array, number, number, number, number]): void {
    for (let i = 0; i < width; i++) {
      const at = t - contextTokens + i
      windows[slot * width + i] = at >= from && at < to ? ids[at]! : -1
    }
    weights[slot] = weight
    domains[slot] = domain
  }
  const read = (first: number, count: number): Example[] =>
    Array.from({ length: count }, (_, i) => {
      const window = Array.from(windows.subarray((first + i) * width, (first + i + 1) * width))
      const before = window.slice(0, contextTokens).filter((id) => id >= 0).length
      return { ids: window.filter((id) => id >= 0), at: before, weight: weights[first + i]!, domain: domains[first + i]! }
    }).sort((a, b) => b.weight - a.weight)

  return {
    offer(layer, expert, weight, ids, from, t, to, domain) {
      const cell = layer * experts + expert
      const first = cell * 2 * examplesKept
      const count = seen[cell]!++
      if (count < examplesKept || weight > weakest[cell]!) {
        let slot = first + count
        if (count >= examplesKept) {
          slot = first
          for (let i = first + 1; i < first + examplesKept; i++) if (weights[i]! < weights[slot]!) slot = i
        }
        keep(slot, weight, ids, from, t, to, domain)
        weakest[cell] = Math.min(...weights.subarray(first, first + Math.min(count + 1, examplesKept)))
      }
      const place = count < examplesKept ? count : random.nextBelow(count + 1)
      if (place < examplesKept) keep(first + examplesKept + place, weight, ids, from, t, to, domain)
    },
    strongest: (layer, expert) => read((layer * experts + expert) * 2 * examplesKept, Math.min(seen[layer * experts + expert]!, examplesKept)),
    sample: (layer, expert) => read((layer * experts + expert) * 2 * examplesKept + examplesKept, Math.min(seen[layer * experts + expert]!, examplesKept)),
  }
}
