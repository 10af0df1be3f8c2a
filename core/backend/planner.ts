/**
 * Lays tensors out in memory: scratch tensors of a plan by their lifetimes in one arena, persistent ones one after another.
 * Pure and shared by every backend, so the memory of a run is known exactly before anything is allocated.
 * It never reorders ops, and it refuses a scratch tensor that is read before it is written.
 */
import { type Plan, type Tensor } from './backend.ts'
import { exactBytes } from './packed.ts'
import { opArguments } from './record.ts'

/** Offsets are multiples of this: a cache line, a page of vector loads, and WebGPU's binding alignment. */
export const alignmentBytes = 256

/** First and last op index (inclusive) that touch a scratch tensor. */
export type Lifetime = { tensor: Tensor; first: number; last: number }

/** Byte offset of every tensor, and the bytes of the whole. */
export type Layout = { offsets: Map<Tensor, number>; totalBytes: number }

/** Bytes of a tensor, rounded up to the alignment; `halves` are those a backend stores in two bytes an element. */
export function tensorBytes(tensor: Tensor, halves?: ReadonlySet<Tensor>): number {
  return Math.ceil(exactBytes(tensor) / (halves?.has(tensor) ? 2 : 1) / alignmentBytes) * alignmentBytes
}

/** Lifetimes of the plan's scratch tensors. Throws when one is read before any op has written it. */
export function lifetimes(plan: Plan): Lifetime[] {
  const found = new Map<Tensor, Lifetime>()
  plan.records.forEach((record, index) => {
    const args = opArguments(record.op)
    record.tensors.forEach((tensor, position) => {
      if (tensor === null || tensor.place !== 'scratch') return
      const known = found.get(tensor)
      if (known) known.last = index
      else if (args[position]!.reads) throw new Error(`plan ${plan.name}: op ${index} ${record.op} reads "${tensor.name}" before it is written`)
      else found.set(tensor, { tensor, first: index, last: index })
    })
  })
  return [...found.values()]
}

/** Offset at or after `start` where `bytes` cross no multiple of `slabBytes` (a slab holds what one buffer may). */
const insideSlab = (start: number, bytes: number, slabBytes: number): number =>
  Math.floor(start / slabBytes) === Math.floor((start + bytes - 1) / slabBytes) ? start : Math.ceil(start / slabBytes) * slabBytes

/** planLifetimes of the plan's own tensors. */
export function planScratch(plan: Plan, halves?: ReadonlySet<Tensor>): Layout {
  return planLifetimes(lifetimes(plan), Infinity, halves)
}

/**
 * First-fit by decreasing size: each tensor takes the lowest offset where no tensor that lives at the same time is.
 * Equal inputs give equal layouts. With `slabBytes` no tensor crosses a multiple of it; none may be larger.
 */
export function planLifetimes(lives: readonly Lifetime[], slabBytes = Infinity, halves?: ReadonlySet<Tensor>): Layout {
  const order = lives.map((life, index) => ({ ...life, index, bytes: tensorBytes(life.tensor, halves) }))
  order.sort((a, b) => b.bytes - a.bytes || a.index - b.index)
  const placed: { first: number; last: number; start: number; end: number }[] = []
  const offsets = new Map<Tensor, number>()
  let totalBytes = 0
  for (const { tensor, first, last, bytes } of order) {
    const alive = placed.filter((other) => other.first <= last && first <= other.last).sort((a, b) => a.start - b.start)
    let start = 0
    for (const other of alive) {
      if (start + bytes <= other.start) break
      start = insideSlab(Math.max(start, other.end), bytes, slabBytes)
    }
    placed.push({ first, last, start, end: start + bytes })
    offsets.set(tensor, start)
    totalBytes = Math.max(totalBytes, start + bytes)
  }
  return { offsets, totalBytes }
}

/** Tensors one after another, in the given order; with `slabBytes` none crosses a multiple of it. */
export function planPersistent(tensors: readonly Tensor[], slabBytes = Infinity): Layout {
  const offsets = new Map<Tensor, number>()
  let totalBytes = 0
  for (const tensor of tensors) {
    const start = insideSlab(totalBytes, tensorBytes(tensor), slabBytes)
    offsets.set(tensor, start)
    totalBytes = start + tensorBytes(tensor)
  }
  return { offsets, totalBytes }
}
