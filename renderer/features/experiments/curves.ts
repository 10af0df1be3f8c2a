/**
 * Curves of an experiment's runs as lines of one chart: of an arm with several seeds the mean, and a band from the lowest to the highest
 * seed. Points that not all seeds of an arm have got to, or that lie elsewhere on the axis (time), are drawn as one faint line for each seed.
 */
import { align } from '#renderer/features/runs/series.ts'

export type ArmCurve = { arm: number; x: number[]; values: number[] }
export type ArmLine = { label: string; colour: string; values: (number | null)[]; faint?: boolean; bandTo?: number }

/** Over each point where all of `columns` have a value, what `pick` makes of them. */
function overSeeds(columns: readonly (readonly (number | null)[])[], pick: (values: number[]) => number): (number | null)[] {
  return columns[0]!.map((_, at) => {
    const values = columns.flatMap((column) => column[at] ?? [])
    return values.length === columns.length ? pick(values) : null
  })
}

export function armLines(curves: readonly ArmCurve[], arms: readonly { label: string; colour: string }[]): { x: number[]; lines: ArmLine[] } {
  const { steps: x, columns } = align(curves.map(({ x: own, values }) => ({ steps: own, values })))
  const lines = arms.flatMap((style, arm): ArmLine[] => {
    const own = columns.filter((_, i) => curves[i]!.arm === arm)
    if (own.length < 2) return own.map((values) => ({ ...style, values }))
    const mean = overSeeds(own, (values) => values.reduce((sum, value) => sum + value, 0) / values.length)
    const seeds = own.map((values): ArmLine => ({ ...style, values, faint: true }))
    // Seeds that never stand at the same place have no mean: the first stands for the arm.
    if (mean.every((value) => value === null)) return [{ ...style, values: own[0]! }, ...seeds.slice(1)]
    const low = overSeeds(own, (values) => Math.min(...values))
    const high = overSeeds(own, (values) => Math.max(...values))
    return [{ ...style, values: mean }, { ...style, values: low, faint: true }, { ...style, values: high, faint: true, bandTo: -1 }, ...seeds]
  })
  return { x, lines }
}
