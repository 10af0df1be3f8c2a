/**
 * `npm run bench -- gpu [--adapter ID] [--precision mixed] [--json]`: what a GPU does with the kernels, for whoever has one to send in one
 * table. The adapter's own peaks first (multiply-adds, copied bytes), every op as a share of them, a training step in tokens per second
 * with its dispatches, read-backs and memory against the plan, and that step's time by kernel from timestamp queries.
 * Sizes are those of the CPU benchmark on a card, and small on a software adapter, which is measured too but means nothing.
 */
import { elementCount, persistent, type Recording } from '#core/backend/backend.ts'
import { record } from '#core/backend/record.ts'
import { createWebGpuBackend, type WebGpuBackend } from '#core/backend/webgpu/webgpu.ts'
import { modelConfigSchema, trainingFlopsPerToken } from '#core/shared/models.ts'
import { createRandom } from '#core/shared/random.ts'
import { createTrainer } from '#core/train/trainer.ts'
import { drawWeights } from '#core/train/weights.ts'
import { argumentData, caseArguments, opCases, type OpCase } from '../ops/cases.ts'
import { median } from './measure.ts'
import { benchCase, cpuLetters, type Letters } from './op-case.ts'

/** What a software adapter gets through in seconds. */
const softwareLetters: Letters = { ...cpuLetters, T: 128, S: 512, R: 512, X: 512, Y: 512, V: 1024, P: 256, flat: 100_000, sequence: 64 }
const rounds = 5

type OpRow = { op: string; ms: number; spread: [number, number]; gigaflops: number; gigabytes: number }

/** Bytes of everything an op reads and writes, once each. */
function bytesOf(opCase: OpCase): number {
  return caseArguments(opCase).reduce((sum, { shape, reads, writes }) => sum + 4 * elementCount(shape) * (Number(reads) + Number(writes)), 0)
}

async function timeOp(backend: WebGpuBackend, opCase: OpCase): Promise<OpRow> {
  const args = caseArguments(opCase).map((argument) => ({ ...argument, tensor: persistent(argument.name, argument.shape, argument.dtype) }))
  const wait = persistent('wait', [1])
  const tensors = [...args.map(({ tensor }) => tensor), wait]
  backend.allocate(tensors)
  for (const { name, reads, dtype, tensor } of args) if (reads) await backend.write(tensor, argumentData(opCase, name, dtype, elementCount(tensor)))
  const named = { ...Object.fromEntries(args.map(({ name, tensor }) => [name, tensor])), ...opCase.attrs }
  const plan = await backend.prepare(record(opCase.op, (b: Recording) => (b[opCase.op] as (args: object) => void)(named)))
  const timed = async (times: number): Promise<number> => {
    const startedAt = performance.now()
    for (let i = 0; i < times; i++) await plan.run()
    await backend.snapshot([wait]).read()
    return (performance.now() - startedAt) / times
  }
  await timed(1)
  // So often that the wait for the answer no longer counts.
  const times = Math.max(1, Math.min(200, Math.round(20 / Math.max(await timed(1), 0.05))))
  const ms: number[] = []
  for (let round = 0; round < rounds; round++) ms.push(await timed(times))
  backend.release(tensors)
  const perSecond = 1e6 * median(ms)
  return { op: opCase.op, ms: median(ms), spread: [Math.min(...ms), Math.max(...ms)], gigaflops: opCase.flops(opCase.sizes, opCase.attrs) / perSecond, gigabytes: bytesOf(opCase) / perSecond }
}

/** A training step of a model of the quick start's family on random data. */
async function timeStep(options: Parameters<typeof createWebGpuBackend>[0], isSoftware: boolean): Promise<Record<string, unknown>> {
  const model = modelConfigSchema.parse({
    vocab_size: isSoftware ? 512 : 8192, hidden_size: isSoftware ? 64 : 512, intermediate_size: isSoftware ? 64 : 256, num_hidden_layers: isSoftware ? 2 : 8,
    num_attention_heads: isSoftware ? 2 : 8, num_key_value_heads: isSoftware ? 2 : 8, num_experts: isSoftware ? 8 : 64, num_experts_per_tok: isSoftware ? 2 : 8,
  })
  const [sequence, sequences, steps] = isSoftware ? [64, 2, 4] : [512, 8, 20]
  const tokens = sequence * sequences
  const backend = await createWebGpuBackend(options)
  const trainer = await createTrainer(backend, { model, sequenceLength: sequence, sequencesPerMicroBatch: sequences, microBatchesPerStep: 1, loadBalanceWeight: 0.01, routerZWeight: 0.001, optimizer: { betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, clip: 1 } })
  await drawWeights(backend, model, trainer.weights, 0)
  const random = createRandom(0, 'bench')
  const draw = (): Int32Array => Int32Array.from({ length: tokens }, () => random.nextBelow(model.vocab_size))
  const step = async (number: number) => {
    await trainer.accumulate([{ ids: draw(), targets: draw(), lossWeights: new Float32Array(tokens).fill(1 / tokens) }])
    return trainer.update(1e-4, number)
  }
  await (await step(1)).read()
  const before = backend.counts()
  const seconds: number[] = []
  for (let round = 0; round < 3; round++) {
    const startedAt = performance.now()
    let last = await step(2)
    for (let i = 1; i < steps; i++) last = await step(2 + i)
    await last.read()
    seconds.push((performance.now() - startedAt) / 1000 / steps)
  }
  const after = backend.counts()
  const per = (key: keyof typeof after): number => (after[key] - before[key]) / (3 * steps)
  const kernels = [...(await backend.profile())].sort((a, b) => b[1] - a[1])
  const result = {
    model: { hidden: model.hidden_size, layers: model.num_hidden_layers, experts: model.num_experts, perToken: model.num_experts_per_tok, tokensPerStep: tokens },
    tokensPerSecond: tokens / median(seconds), stepMs: seconds.map((s) => 1000 * s), flopsPerSecond: (tokens * trainingFlopsPerToken(model, sequence)) / median(seconds),
    dispatchesPerStep: per('dispatches'), submitsPerStep: per('submits'), readBytesPerStep: per('readBytes'), plannedBytes: trainer.plannedBytes, heldBytes: backend.heldBytes(), kernels,
  }
  await backend.close()
  return result
}

/** Prints the tables, or one JSON value. */
export async function benchGpu(argv: readonly string[]): Promise<never> {
  const option = (name: string): string | undefined => argv[argv.indexOf(`--${name}`) + 1 || argv.length]
  const options = { adapter: option('adapter') ?? null, precision: option('precision') === 'mixed' ? ('mixed' as const) : ('float32' as const) }
  const only = argv.filter((word) => !word.startsWith('--'))[1]
  const backend = await createWebGpuBackend(options)
  const { adapter, variants } = backend
  const [flops, bytes] = [await backend.measurePeak(), await backend.measureBandwidth()]
  const say = (line: string): void => void (argv.includes('--json') || console.log(line))
  say(`${backend.description}\nid ${adapter.id}; kernels ${variants.gemm}, ${variants.reduce}, ${variants.operand} operands; Node ${process.version}, ${process.platform} ${process.arch}`)
  if (adapter.isSoftware) say('This is a software adapter: it computes on the CPU, and its figures say nothing of any card.')
  say(`measured peaks: ${(flops / 1e9).toFixed(1)} GFLOP/s multiply-adds, ${(bytes / 1e9).toFixed(1)} GB/s copied\n`)
  say(`${'op'.padEnd(30)} ${'ms'.padStart(9)} ${'spread'.padStart(19)} ${'GFLOP/s'.padStart(9)} ${'of peak'.padStart(8)} ${'GB/s'.padStart(8)} ${'of peak'.padStart(8)}`)
  const rows: OpRow[] = []
  const letters = adapter.isSoftware ? softwareLetters : cpuLetters
  for (const op of new Set(opCases.map((opCase) => opCase.op))) {
    if (only && !op.includes(only)) continue
    const row = await timeOp(backend, benchCase(opCases.find((candidate) => candidate.op === op)!, letters))
    rows.push(row)
    const share = (value: number, peak: number): string => `${((100 * value * 1e9) / peak).toFixed(1)} %`.padStart(8)
    say(`${op.padEnd(30)} ${row.ms.toFixed(3).padStart(9)} ${`${row.spread[0].toFixed(3)} – ${row.spread[1].toFixed(3)}`.padStart(19)} ${row.gigaflops.toFixed(2).padStart(9)} ${share(row.gigaflops, flops)} ${row.gigabytes.toFixed(2).padStart(8)} ${share(row.gigabytes, bytes)}`)
  }
  await backend.close()
  const step = only ? null : await timeStep({ ...options, variants }, adapter.isSoftware)
  const profile = only || !adapter.features.timestamps ? null : await timeStep({ ...options, variants, profile: true }, adapter.isSoftware)
  if (step) {
    say(`\ntraining step ${JSON.stringify(step.model)}: ${Number(step.tokensPerSecond).toFixed(0)} tokens/s, ${((100 * Number(step.flopsPerSecond)) / flops).toFixed(1)} % of the measured peak`)
    say(`per step: ${Number(step.dispatchesPerStep)} dispatches in ${Number(step.submitsPerStep)} submits, ${Number(step.readBytesPerStep).toFixed(1)} bytes read back`)
    say(`memory: planned ${(Number(step.plannedBytes) / 2 ** 20).toFixed(1)} MiB, held ${(Number(step.heldBytes) / 2 ** 20).toFixed(1)} MiB`)
  }
  if (profile) {
    const kernels = profile.kernels as [string, number][]
    const total = kernels.reduce((sum, [, nanoseconds]) => sum + nanoseconds, 0)
    say('\ntime of that step by op and kernel (timestamp queries):')
    for (const [kernel, nanoseconds] of kernels.slice(0, 24)) say(`${kernel.padEnd(66)} ${((100 * nanoseconds) / total).toFixed(1).padStart(5)} %`)
  }
  if (argv.includes('--json')) console.log(JSON.stringify({ adapter, variants, precision: options.precision, peaks: { flopsPerSecond: flops, bytesPerSecond: bytes }, ops: rows, step, profile }))
  return process.exit(0)
}
