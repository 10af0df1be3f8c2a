/** Where the time of a training step goes: milliseconds by op on one thread, of the step in which each was fastest. */
import { createCpuBackend } from '#core/backend/cpu.ts'
import { spreadOf, type Bench } from './measure.ts'
import { openStepper } from './step.ts'

const steps = 5

export const bench: Bench = {
  title: 'a small step by op, one thread',
  async run({ show }) {
    for (const precision of ['mixed', 'float32'] as const) {
      const backend = createCpuBackend({ precision, threads: 1 })
      const stepper = await openStepper(backend, 'small')
      await stepper.step()
      const times = new Map<string, number[]>()
      const whole: number[] = []
      for (let step = 0; step < steps; step++) {
        const before = backend.profile() as Record<string, number>
        whole.push(1000 * (await stepper.step()))
        for (const [op, nanoseconds] of Object.entries(backend.profile())) times.set(op, [...(times.get(op) ?? []), (nanoseconds - (before[op] ?? 0)) / 1e6])
      }
      const rows = [...times].map(([op, list]) => ({ op, list, least: Math.min(...list) })).sort((a, b) => b.least - a.least)
      for (const { op, list, least } of [{ op: 'all', list: whole, least: Math.min(...whole) }, ...rows.filter(({ least: ms }) => ms >= 1)]) {
        show({ group: 'step', name: `${backend.precision}, ${op}`, value: least, unit: 'ms', peer: `${((100 * least) / Math.min(...whole)).toFixed(1)} %`, ratio: null, spread: spreadOf(list) })
      }
      await backend.close()
    }
  },
}
