/** How the referee's loops get their arguments: by name, and the letters of the shapes. And the two functions that several need. */
import type { OpName, opTable } from './backend.ts'

export type Numbers = Float64Array | Int32Array

type Spec = { out?: object; inout?: object; in?: object; optional?: object; attrs?: readonly string[] }
type Named<S, K extends keyof Spec> = S extends { readonly [P in K]: infer R } ? { [P in keyof R]: Numbers } : unknown
type Optional<S> = S extends { readonly optional: infer R } ? { [P in keyof R]?: Numbers } : unknown
type Attrs<S> = S extends { readonly attrs: readonly (infer A extends string)[] } ? { [P in A]: number } : unknown
export type Args<N extends OpName> = Named<(typeof opTable)[N], 'out'> &
  Named<(typeof opTable)[N], 'inout'> &
  Named<(typeof opTable)[N], 'in'> &
  Optional<(typeof opTable)[N]> &
  Attrs<(typeof opTable)[N]>
export type Letters = { [letter: string]: number } & Record<
  'T' | 'D' | 'N' | 'J' | 'H' | 'G' | 'C' | 'E' | 'K' | 'S' | 'F' | 'V' | 'P' | 'W' | 'R' | 'M',
  number
>

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x))

/** log Σ exp(x[from..from+size)). */
export function logSumExp(x: Numbers, from: number, size: number): number {
  let max = -Infinity
  for (let i = 0; i < size; i++) max = Math.max(max, x[from + i]!)
  let sum = 0
  for (let i = 0; i < size; i++) sum += Math.exp(x[from + i]! - max)
  return max + Math.log(sum)
}
