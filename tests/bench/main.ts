/**
 * `npm run bench`: every op at the sizes of a small training step, then the training step itself, as shares of the multiply-add peak
 * that is measured in the same run. Medians of several rounds with their spread; --json for machines.
 * Inference at real sizes is inference.ts (`npm run bench -- inference:227M` runs one shape).
 * An op's sizes come from one table of letters, so its row, its case in tests/ops/cases.ts and its name stay one thing.
 */
import { cpus } from 'node:os'
import { elementCount, persistent, type Recording } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'
import { benchTrain } from '#core/cli/bench-train.ts'
import { argumentData, caseArguments, opCases, type OpCase } from '../ops/cases.ts'
import { benchInference } from './inference.ts'

type Row = { name: string; value: number; unit: string; peer: string; ratio: number | null; spread: [number, number] }

const rounds = 7
/** The letters of one step: 2,048 tokens of width 256, 16 experts of width 256, 4 per token. */
const letters = { T: 2048, D: 256, N: 256, J: 256, C: 64, E: 16, K: 4, S: 8192, R: 8192, X: 8192, Y: 8192, F: 256, V: 8192, P: 1024, W: 256, M: 64, L: 8 }

/** The case of an op at bench size: the first of tests/ops/cases.ts that passes no optional tensor, with other sizes. */
function benchCase(first: OpCase): OpCase {
  const attrs = { ...first.attrs, ...('H' in first.attrs && { H: 4 }), ...('G' in first.attrs && { G: 4 }), ...('sequence' in first.attrs && { sequence: 512 }) }
  const isGrouped = first.op.startsWith('groupedLinear')
  const isFlat = ['sumOfSquares', 'adamwStep'].includes(first.op)
  const isCached = 'positions' in first.given && 'P' in first.sizes
  // A cache is met by one token of a long text, everything else by a training step.
  const sizes = { ...letters, ...attrs, ...(isFlat && { X: 4_000_000 }), ...(isCached && { T: 1 }) }
  const even = (): number[] => Array.from({ length: letters.E + 1 }, (_, e) => (e * letters.S) / letters.E)
  const given = { ...first.given, ...(isGrouped && { offsets: even }), ...(isCached && { positions: () => [letters.P - 1] }), ...(first.op === 'routerLossForward' && { counts: () => new Array<number>(letters.E).fill(512) }) }
  // Its case works the true log-sum-exp out in JavaScript, which takes minutes at this size; the speed does not depend on it.
  if (first.op === 'headCrossEntropyBackward') Object.assign(given, { lse: () => new Array<number>(letters.T).fill(150) })
  return { ...first, label: 'bench', sizes, attrs, given, optional: [] }
}

/** Ops of fewer operations are bound by memory or latency: their time says more than a rate. */
const rateFromFlops = 1e8

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!

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

async function main(argv: string[]): Promise<void> {
  const json = argv.includes('--json')
  const only = argv.find((word) => !word.startsWith('--'))
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
    const opCase = benchCase(opCases.find((candidate) => candidate.op === op)!)
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
  const [group, shape] = only?.split(':') ?? []
  if (!only || group === 'inference') await benchInference(show, (text) => json || console.log(text), shape)
  if (json) console.log(JSON.stringify(rows))
}

await main(process.argv.slice(2))
