/** The cost of an analysis (analysis.ts) as a group of the benchmark. */
import { measureOverhead } from './analysis.ts'
import type { Bench } from './measure.ts'

export const bench: Bench = {
  title: 'analysis: a counted pass beside a plain forward pass, the quick start’s model',
  async run({ show }) {
    const { analysedMs, spreadMs, ratio } = await measureOverhead()
    show({ group: 'ana', name: 'forward pass with all counters, 2048 tokens', value: analysedMs, unit: 'ms', spread: spreadMs, ratio, peer: 'a plain forward pass', goal: '≤ 1.3 x' })
  },
}
