/** The cost of an analysis (analysis.ts), and the memory of its counters at the published shape (counters-scale.ts), as a group of the benchmark. */
import { measureOverhead } from './analysis.ts'
import { measureCounters } from './counters-scale.ts'
import type { Bench } from './measure.ts'

const countedTokens = 500_000

export const bench: Bench = {
  title: 'analysis: a counted pass beside a plain forward pass, the quick start’s model; counters of OLMoE-1B-7B’s shape',
  async run({ show, note }) {
    const { analysedMs, spreadMs, ratio } = await measureOverhead()
    show({ group: 'ana', name: 'forward pass with all counters, 2048 tokens', value: analysedMs, unit: 'ms', spread: spreadMs, ratio, peer: 'a plain forward pass', goal: '≤ 1.3 x' })
    const scale = measureCounters(countedTokens)
    const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`
    note(`counters, 16 layers × 64 experts × 50,304 ids, ${scale.tokens} tokens: ${mib(scale.takenBytes)} of arrays, ${mib(scale.residentBytes)} resident, bound ${mib(scale.boundBytes)}; bound for 10 million tokens ${mib(scale.boundOfTenMillion)}; ${scale.microsecondsPerToken.toFixed(1)} µs a token`)
  },
}
