/**
 * `npm run bench`: every op at the sizes of a small training step, then the training step itself, as shares of the multiply-add peak
 * that is measured in the same run. Medians of several rounds with their spread; --json for machines. `npm run bench -- gpu`: the same
 * on a GPU (gpu.ts); `npm run bench -- data`: tokenizer, trainer and loader (data.ts).
 * An op's sizes come from one table of letters, so its row, its case in tests/ops/cases.ts and its name stay one thing.
 */
import { cpus } from 'node:os'
import { elementCount, persistent, type Recording } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'
import { benchTrain } from '#core/cli/bench-train.ts'
import { argumentData, caseArguments, opCases, type OpCase } from '../ops/cases.ts'
import { benchGpu } from './gpu.ts'
import { benchCase, cpuLetters, median } from './op-case.ts'

type Row = { name: string; value: number; unit: string; peer: string; ratio: number | null; spread: [number, number] }

const rounds = 7
/** Ops of fewer operations are bound by memory or latency: their time says more than a rate. */
const rateFromFlops = 1e8

async function timeOp(backend: ReturnType<typeof createCpuBackend>, opCase: OpCase): Promise<number[]> {
  const args = caseArguments(opCase).map((argument) => ({ ...argument, tensor: persistent(argument.name, argument.shape, argument.dtype) }))
  const tensors = args.map(({ tensor }) => tensor)
  backend.allocate(tensors)
  for (const { name, reads, dtype, tensor } of args) if (reads) await backend.write(tensor, argumentData(opCase, name, dtype, elementCount(tensor)))
  const named = { ...Object.fromEntries(args.map(({ name, tensor }) => [name, tensor])), ...opCase.attrs }
  const plan = await backend.prepare(record(opCase.op, (b: Recording) => (b[opCase.op] as (args: object) => void)(named)))
  await plan.run()
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const startedAt = performance.now()
    await plan.run()
    times.push((performance.now() - startedAt) / 1000)
  }
  backend.release(tensors)
  return times
}

/** Loaded only when asked for: it brings the rival's addon along. */
async function showData(json: boolean): Promise<void> {
  const { benchData } = await import('./data.ts')
  const rows = await benchData()
  if (json) return console.log(JSON.stringify(rows))
  for (const { name, value, unit, peer, ratio, spread } of rows) console.log(`${name.padEnd(30)} ${value.toFixed(2).padStart(10)} ${unit.padEnd(5)} (${spread.map((one) => one.toFixed(2)).join(' – ')})  ${ratio === null ? '' : `${ratio.toFixed(2)} × ${peer}`}`)
}

async function main(argv: string[]): Promise<void> {
  const json = argv.includes('--json')
  const only = argv.find((word) => !word.startsWith('--'))
  if (only === 'gpu') return benchGpu(argv)
  if (only === 'data') return showData(json)
  const backend = createCpuBackend({})
  const rows: Row[] = []
  const show = (row: Row): void => {
    rows.push(row)
    const ratio = row.ratio === null ? '' : `${(100 * row.ratio).toFixed(0).padStart(4)} % of ${row.peer}`
    if (!json) console.log(`${row.name.padEnd(30)} ${row.value.toFixed(2).padStart(10)} ${row.unit.padEnd(9)} (${row.spread.map((value) => value.toFixed(2)).join(' – ')})  ${ratio}`)
  }
  if (!json) console.log(`${cpus()[0]?.model.trim()} × ${cpus().length}; ${backend.description}; Node ${process.version}; medians of ${rounds} rounds (fastest – slowest)\n`)
  for (const op of new Set(opCases.map((opCase) => opCase.op))) {
    if (only && !op.includes(only) && only !== 'ops') continue
    const opCase = benchCase(opCases.find((candidate) => candidate.op === op)!, cpuLetters)
    // The peak is measured beside each op: the machine's speed drifts.
    const peak = (await backend.measurePeak()) / 1e9
    const times = await timeOp(backend, opCase)
    const flops = opCase.flops(opCase.sizes, opCase.attrs)
    const isRate = flops >= rateFromFlops
    const speeds = isRate ? times.map((seconds) => flops / seconds / 1e9) : times.map((seconds) => seconds * 1000)
    const value = median(speeds)
    show({ name: op, value, unit: isRate ? 'GFLOP/s' : 'ms', peer: 'measured peak', ratio: isRate ? value / peak : null, spread: [Math.min(...speeds), Math.max(...speeds)] })
  }
  await backend.close()
  if (!only || only === 'train') {
    const model = new URL('../../resources/presets/quickstart.json', import.meta.url).pathname
    const silent = { json: false, library: '', progress: () => undefined, note: () => undefined }
    const result = (await benchTrain.run({ values: { model, batch: '4', seq: '256', steps: '20' }, positionals: [] }, silent)) as { tokensPerSecond: { median: number; min: number; max: number }; peakFraction: number }
    const { median: value, min, max } = result.tokensPerSecond
    show({ name: 'training step, quick start', value, unit: 'tokens/s', peer: 'measured peak', ratio: result.peakFraction, spread: [min, max] })
  }
  if (json) console.log(JSON.stringify(rows))
}

await main(process.argv.slice(2))
