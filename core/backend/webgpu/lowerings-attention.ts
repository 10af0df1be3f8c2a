/** The lowering of rotation, attention and its cache: how queries and keys are split over workgroups. */
import type { OpName } from '../backend.ts'
import { foldGroups, type Lowering } from './call.ts'

/** Turns per position of every pair, as 48-bit fixed point: [C/2] words of the upper 32 bits, then [C/2] of the next 16. */
function turnsPerPosition(theta: number, C: number): Uint32Array {
  const pairs = C / 2
  const words = new Uint32Array(2 * pairs)
  for (let i = 0; i < pairs; i++) {
    const turns = Math.pow(theta, (-2 * i) / C) / (2 * Math.PI)
    const upper = Math.floor(turns * 2 ** 32)
    words[i] = upper
    words[pairs + i] = Math.floor((turns * 2 ** 32 - upper) * 2 ** 16)
  }
  return words
}

/** Rotation by sign·angle; both directions are one kernel. */
const rope = (from: string, to: string, inverse: number): Lowering => (c) => {
  const { T, H, C, theta } = c.n as Record<string, number>
  const turns = c.constant(`rope ${theta} ${C}`, [C!], () => turnsPerPosition(theta!, C!))
  c.dispatch('rope', { tensors: { y: c.t[to], x: c.t[from], turns }, params: { inverse }, groups: foldGroups(Math.ceil((T! * H! * (C! / 2)) / 64)) })
}

export const attentionLowerings = {
  ropeForward: rope('x', 'y', 0),
  ropeBackward: rope('dY', 'dX', 1),
  attentionForward: () => { throw new Error('not yet') },
  attentionBackward: () => { throw new Error('not yet') },
  kvAppendForward: (c) => c.dispatch('kvAppendForward', { groups: foldGroups(Math.ceil((c.n.T! * c.n.W!) / 64)) }),
  attentionCachedForward: () => { throw new Error('not yet') },
} as const satisfies Partial<Record<OpName, Lowering>>
