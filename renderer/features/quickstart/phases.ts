/** The phases of the quick start as rows: what is done, what is under way, what is to come. */
import type { Phase } from '#core/shared/runs.ts'
import type { Format } from '#renderer/format.ts'

export type PhaseRow = { name: string; state: 'done' | 'now' | 'next'; share: number | null }

/** While the first phase has not reported, or a phase under way is none of the list's, the first one is about to begin. */
export function phaseRows(names: readonly string[], now: Phase | null): PhaseRow[] {
  const known = now ? names.indexOf(now.phase) : -1
  const at = Math.max(0, known)
  return names.map((name, i) => {
    if (i < at) return { name, state: 'done', share: 1 }
    if (i > at) return { name, state: 'next', share: 0 }
    return { name, state: 'now', share: known < 0 || !now?.total ? null : Math.min(0.99, now.done / now.total) }
  })
}

/** "12 MB of 34 MB", "120 of 600 steps". `unitName` words a unit in the page's language. */
export function phaseAmount(phase: Phase, f: Format, unitName: (unit: string) => string, of: (values: Record<'done' | 'total' | 'unit', string>) => string): string {
  const amount = (n: number) => (phase.unit === 'bytes' ? f.bytes(n) : f.count(n))
  if (phase.total === null) return phase.done > 0 ? amount(phase.done) : ''
  return of({ done: amount(phase.done), total: amount(phase.total), unit: phase.unit === 'bytes' ? '' : unitName(phase.unit) }).trim()
}
