/**
 * `npm run bench [-- names…] [--json file]`: the benchmark tables. Every file `<name>.bench.ts` here is a group of rows; names choose
 * among them, and `inference:227M` one row's subject within its group. What a row is compared with is measured in the same run, in turns with it; a peer that is not installed is named as
 * absent. --json writes the rows with the machine's description. `npm run bench -- gpu` measures a graphics card (gpu.ts).
 */
import { readdirSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { benchGpu } from './gpu.ts'
import { machine, type Bench, type Row } from './measure.ts'

// A card is measured by itself, with options of its own.
if (process.argv[2] === 'gpu') await benchGpu(process.argv.slice(2))

const { values, positionals } = parseArgs({ options: { json: { type: 'string' } }, allowPositionals: true })
const names = readdirSync(import.meta.dirname).flatMap((file) => /^(.+)\.bench\.ts$/.exec(file)?.[1] ?? [])
const chosen = new Map(positionals.map((word) => [word.split(':')[0]!, word.split(':')[1]]))
const unknown = [...chosen.keys()].find((name) => !names.includes(name))
if (unknown !== undefined) throw new Error(`there is no benchmark "${unknown}", there are: ${names.join(', ')}`)

const rows: Row[] = []
const notes: string[] = []
const show = (row: Row): void => {
  rows.push(row)
  const digits = row.value < 10 ? 3 : row.value < 100 ? 2 : 0
  const isShare = row.peer === 'measured peak'
  const amount = (ratio: number): string => (isShare ? `${(100 * ratio).toFixed(0)} %` : `${ratio.toFixed(3)} x`)
  const ofMedians = row.medianRatio === undefined ? '' : ` (median ${amount(row.medianRatio)})`
  const ratio = row.ratio === null ? row.peer : `${amount(row.ratio)}${ofMedians} of ${row.peer}`
  console.log(`${row.group.padEnd(4)} ${row.name.padEnd(52)} ${row.value.toFixed(digits).padStart(8)} ${row.unit.padEnd(9)} (${row.spread.map((value) => value.toFixed(digits)).join(' – ')})  ${ratio}${row.goal ? `  [goal ${row.goal}]` : ''}`)
}
const note = (text: string): void => {
  notes.push(text)
  console.log(`     ${text}`)
}

const host = machine()
console.log(`${host.processor} × ${host.cores}, ${host.memoryGiB} GiB, ${host.platform}, Node ${host.node}, load average ${host.loadAverage.toFixed(1)}; medians (lowest – highest), ratios of the fastest rounds`)
for (const name of names.filter((candidate) => chosen.size === 0 || chosen.has(candidate))) {
  const { bench } = (await import(`./${name}.bench.ts`)) as { bench: Bench }
  console.log(`\n${bench.title}`)
  await bench.run({ show, note, only: chosen.get(name) })
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine: host, date: new Date().toISOString(), rows, notes }, null, 1)}\n`)
