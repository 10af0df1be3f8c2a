/** The lowering of rotation, attention and its cache: how queries and keys are split over workgroups. */
import { elementCount, type OpName, type Tensor } from '../backend.ts'
import { elementGroups as elements, type Call, type Lowering } from './call.ts'

/** Rows of a block of lib/attention.wgsl. */
const blockRows = 32
/** Cache rows of a workgroup of attentionCachedForward. */
const partRows = 256
/** From so many tokens on, blocks of queries go through a cache; fewer would not fill a block, and the cache is split among workgroups instead. */
const blockTokens = 32

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
  c.dispatch('rope', { tensors: { y: c.t[to], x: c.t[from], turns }, params: { inverse }, groups: elements(T! * H! * (C! / 2)) })
}

/** What the kernels of an attention op are bound to: heads of a width C that is a multiple of four, widened by zeros where it is not. */
type Heads = {
  readonly tensors: Readonly<Record<string, Tensor>>
  readonly params: Readonly<Record<string, number>>
  readonly C: number
  /** Narrows the results again. */
  finish(): void
}

function wholeHeads(c: Call, inputs: readonly string[], outputs: readonly string[]): Heads {
  const width = c.n.C!
  const C = Math.ceil(width / 4) * 4
  const params = { C, scale: 1 / Math.sqrt(width) }
  const own = (name: string): Tensor => c.t[name]!
  if (C === width) return { tensors: Object.fromEntries([...inputs, ...outputs].map((name) => [name, own(name)])), params, C, finish: () => undefined }
  const rowsOf = (name: string): number => elementCount(own(name)) / width
  const tensors = Object.fromEntries([...inputs, ...outputs].map((name) => [name, c.hidden(name, [rowsOf(name), C])]))
  const copy = (x: Tensor, y: Tensor, rows: number, xWidth: number, yWidth: number): void =>
    c.dispatch('attentionWidth', { tensors: { x, y }, params: { rows, xWidth, yWidth }, groups: elements(rows * yWidth) })
  for (const name of inputs) copy(own(name), tensors[name]!, rowsOf(name), width, C)
  return { tensors, params, C, finish: () => outputs.forEach((name) => copy(tensors[name]!, own(name), rowsOf(name), C, width)) }
}

function attentionForward(c: Call): void {
  const { T, H } = c.n as Record<string, number>
  const { tensors, params, C, finish } = wholeHeads(c, ['q', 'k', 'v'], ['o'])
  c.dispatch('attentionForward', { tensors, params: { ...params, hasPositions: 0 }, groups: [Math.ceil(T! / blockRows), H!, Math.ceil(C / 128)] })
  finish()
}

function attentionBackward(c: Call): void {
  const { T, H, G } = c.n as Record<string, number>
  const { tensors, params, C, finish } = wholeHeads(c, ['dO', 'q', 'k', 'v', 'o'], ['dQ', 'dK', 'dV'])
  const delta = c.hidden('delta', [T!, H!])
  const blocks = Math.ceil(T! / blockRows)
  const all = { ...tensors, delta }
  c.dispatch('attentionBackwardDelta', { tensors: all, params, groups: elements(T! * H!) })
  c.dispatch('attentionBackwardQuery', { tensors: all, params, groups: [blocks, H!, Math.ceil(C / 128)] })
  c.dispatch('attentionBackwardKeyValue', { tensors: all, params, groups: [blocks, G!, Math.ceil(C / 128)] })
  finish()
}

function attentionCachedForward(c: Call): void {
  const { T, H, P } = c.n as Record<string, number>
  const { tensors, params, C, finish } = wholeHeads(c, ['q', 'cacheK', 'cacheV'], ['o'])
  if (T! >= blockTokens) {
    c.dispatch('attentionForward', {
      tensors: { ...tensors, k: tensors.cacheK, v: tensors.cacheV, lse: c.hidden('lse', [T!, H!]) },
      params: { ...params, hasPositions: 1, sequence: P! },
      groups: [Math.ceil(T! / blockRows), H!, Math.ceil(C / 128)],
    })
  } else {
    const count = Math.ceil(P! / partRows)
    const parts = c.hidden('parts', [count, T!, H!, 2])
    const partO = count > 1 ? c.hidden('partO', [count, T!, H! * C]) : tensors.o!
    c.dispatch('attentionCachedForward', { tensors: { ...tensors, o: partO, parts }, params: { ...params, parts: count }, groups: [count, H!, T!] })
    if (count > 1) c.dispatch('attentionCachedMerge', { tensors: { ...tensors, partO, parts }, params, groups: elements((T! * H! * C) / 4) })
  }
  finish()
}

export const attentionLowerings = {
  ropeForward: rope('x', 'y', 0),
  ropeBackward: rope('dY', 'dX', 1),
  attentionForward,
  attentionBackward,
  kvAppendForward: (c) => c.dispatch('kvAppendForward', { groups: elements(c.n.T! * c.n.W!) }),
  attentionCachedForward,
} as const satisfies Partial<Record<OpName, Lowering>>
