/**
 * Building a mix of 1 GB of generated text (`mix:100` for 100 MB) with every filter on, in a process of its own: its peak resident memory
 * with all its threads (it starts no other process), its time and rate. The bar is 1 GB.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bench } from './measure.ts'
import { writeTexts } from './mix-text.ts'

const domains = ['news', 'code', 'papers', 'talk']

type Measured = { totalSeconds: number; seconds: Record<string, number>; tokens: number; peakBytes: number }

export const bench: Bench = {
  title: 'mix: building from files, memory and rate',
  async run({ show, note, only }) {
    const megabytes = Number(only ?? 1000)
    const folder = mkdtempSync(join(tmpdir(), 'moe-bench-'))
    try {
      let sizeBytes = 0
      for (const domain of domains) sizeBytes += await writeTexts(join(folder, `${domain}.jsonl`), domain, (megabytes * 1e6) / domains.length)
      const spec = { name: 'bench', sources: domains.map((name) => ({ name, paths: [`${name}.jsonl`] })), filters: { near: {} }, vocabularySize: 16_384 }
      writeFileSync(join(folder, 'mix.json'), JSON.stringify(spec))
      const printed = execFileSync(process.execPath, [join(import.meta.dirname, 'mix-process.ts'), join(folder, 'mix.json'), join(folder, 'library')], { encoding: 'utf8' })
      const { totalSeconds, seconds, tokens, peakBytes } = JSON.parse(printed) as Measured
      const row = { group: 'mix', peer: '', ratio: null }
      const peak = peakBytes / 1e6
      const rate = sizeBytes / 1e6 / totalSeconds
      show({ ...row, name: `peak resident memory, ${megabytes} MB`, value: peak, unit: 'MB', spread: [peak, peak], goal: '< 1000' })
      show({ ...row, name: `rate, ${(tokens / 1e6).toFixed(0)} M tokens`, value: rate, unit: 'MB/s', spread: [rate, rate] })
      note(`seconds: ${Object.entries(seconds).map(([phase, value]) => `${phase} ${value.toFixed(1)}`).join(', ')}, all ${totalSeconds.toFixed(1)}`)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  },
}
