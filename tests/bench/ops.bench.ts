/**
 * Every op in float32 at the sizes of a small training step, as shares of the multiply-add peak that is measured in the same run.
 * An op's sizes come from one table of letters, so its row, its case in tests/ops/cases.ts and its name stay one thing.
 */
import { elementCount, persistent, type Recording } from '#core/backend/backend.ts'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { record } from '#core/backend/record.ts'
import { argumentData, caseArguments, opCases, type OpCase } from '../ops/cases.ts'
import { median, spreadOf, type Bench } from './measure.ts'
import { benchCase, cpuLetters } from './op-case.ts'

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

export const bench: Bench = {
  title: 'ops',
  async run({ show }) {
    const backend = createCpuBackend({})
    for (const op of new Set(opCases.map((opCase) => opCase.op))) {
      const opCase = benchCase(opCases.find((candidate) => candidate.op === op)!, cpuLetters)
      // The peak is measured beside each op: the machine's speed drifts.
      const peak = (await backend.measurePeak()) / 1e9
      const times = await timeOp(backend, opCase)
      const flops = opCase.flops(opCase.sizes, opCase.attrs)
      const isRate = flops >= rateFromFlops
      const speeds = isRate ? times.map((seconds) => flops / seconds / 1e9) : times.map((seconds) => seconds * 1000)
      const value = median(speeds)
      show({ group: 'ops', name: op, value, unit: isRate ? 'GFLOP/s' : 'ms', peer: 'measured peak', ratio: isRate ? value / peak : null, spread: spreadOf(speeds) })
    }
    await backend.close()
  },
}
