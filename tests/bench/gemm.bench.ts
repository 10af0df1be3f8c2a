/**
 * G1–G3: matrix products at the shapes of training, against PyTorch (in bf16 and where weights are packed, that is its oneDNN; else MKL)
 * and Debian's older oneDNN in the same seconds, and against the measured peak. Operands lie in memory as a training step has them: bf16
 * activations in and out, float32 weights. "kept" rows have the weights packed beforehand on both sides, as they are from the second
 * micro-batch of a step on; the others pack (and round) them in every call. One precision alone: `gemm:mixed`, `gemm:float32`.
 */
import { persistent, type Recording, type Tensor } from '#core/backend/backend.ts'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { geometricMean, interleave, median, ratioOf, repeatsFor, spreadOf, timedOp, type Bench, type BenchContext } from './measure.ts'
import { openOneDnn, type OneDnn } from './onednn.ts'
import { openTorch, type Torch, type TorchQuestion } from './torch.ts'

const rounds = 15
const denseShapes = [
  [1024, 1024, 1024], [2048, 2048, 2048], [512, 2048, 1024], [4096, 512, 256], [4096, 256, 512], [1024, 512, 256],
  [256, 512, 512], [64, 512, 256], [512, 512, 2048], [2048, 16384, 512], [4096, 8192, 256], [128, 1024, 2048],
] as const
/** Tokens, experts, experts per token, N, K. */
const groupedShapes = [[4096, 16, 4, 512, 256], [4096, 16, 4, 256, 256], [2048, 64, 8, 512, 512], [2048, 64, 8, 512, 256], [512, 64, 8, 2048, 2048]] as const
type Precision = 'float32' | 'mixed'

const noise = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => ((i * 7919) % 1009) / 1009 - 0.5)

/** A scratch copy of `from`: bf16 in mixed plans, because only products read it. */
function operand(b: Recording, name: string, from: Tensor, positions: Tensor): Tensor {
  const to = b.scratch(name, from.shape)
  b.ropeForward({ y: to, x: from, positions, H: 1, theta: 10000 })
  return to
}

/** Where the rows of each expert begin, of unequal number, as a router leaves them: half to one and a half times the mean. */
function boundsOf(slots: number, E: number): number[] {
  const shares = Array.from({ length: E }, (_, e) => 0.5 + ((e * 7) % E) / Math.max(1, E - 1))
  const total = shares.reduce((a, b) => a + b, 0)
  const bounds = [0]
  for (let e = 0, sum = 0; e < E; e++) bounds.push(e === E - 1 ? slots : Math.round((slots * (sum += shares[e]!)) / total))
  return bounds
}

type Ops = Record<'forward' | 'input' | 'weight', () => Promise<number>>

async function denseOps(backend: CpuBackend, [M, N, K]: readonly [number, number, number], repeats: number): Promise<{ ops: Ops; release(): void }> {
  const [x, y, weight, dWeight] = [persistent('x', [M, K]), persistent('y', [M, N]), persistent('w', [N, K]), persistent('dW', [N, K])]
  const positions = persistent('positions', [M], 'i32')
  backend.allocate([x, y, weight, dWeight, positions])
  for (const tensor of [x, y, weight]) await backend.write(tensor, noise(tensor.shape[0]! * tensor.shape[1]!))
  const forward = await timedOp(backend, 'linearForward', repeats, (b) => {
    const [from, to] = [operand(b, 'from', x, positions), b.scratch('to', [M, N])]
    return () => b.linearForward({ y: to, x: from, weight })
  })
  const input = await timedOp(backend, 'linearBackwardInput', repeats, (b) => {
    const [from, to] = [operand(b, 'from', y, positions), b.scratch('to', [M, K])]
    return () => b.linearBackwardInput({ dX: to, dY: from, weight })
  })
  const weights = await timedOp(backend, 'linearBackwardWeight', repeats, (b) => {
    const [dY, from] = [operand(b, 'dY', y, positions), operand(b, 'from', x, positions)]
    return () => b.linearBackwardWeight({ dWeight, dY, x: from })
  })
  return { ops: { forward, input, weight: weights }, release: () => backend.release([x, y, weight, dWeight, positions]) }
}

async function groupedOps(backend: CpuBackend, [T, E, k, N, K]: (typeof groupedShapes)[number], repeats: number): Promise<{ ops: Ops; release(): void }> {
  const S = T * k
  const [x, dY, weight, dWeight] = [persistent('x', [T, K]), persistent('dY', [S, N]), persistent('w', [E, N, K]), persistent('dW', [E, N, K])]
  const [offsets, rows, positions] = [persistent('offsets', [E + 1], 'i32'), persistent('rows', [S], 'i32'), persistent('positions', [T], 'i32')]
  const slotPositions = persistent('slotPositions', [S], 'i32')
  const all = [x, dY, weight, dWeight, offsets, rows, positions, slotPositions]
  backend.allocate(all)
  for (const tensor of [x, dY, weight]) await backend.write(tensor, noise(tensor.shape.reduce((a, b) => a * b, 1)))
  await backend.write(offsets, Int32Array.from(boundsOf(S, E)))
  await backend.write(rows, Int32Array.from({ length: S }, (_, i) => (i * 7919) % T))
  const forward = await timedOp(backend, 'groupedLinearForward', repeats, (b) => {
    const [from, to] = [operand(b, 'from', x, positions), b.scratch('to', [S, N])]
    return () => b.groupedLinearForward({ y: to, x: from, weight, offsets, rows })
  })
  const input = await timedOp(backend, 'groupedLinearBackwardInput', repeats, (b) => {
    const [from, to] = [operand(b, 'from', dY, slotPositions), b.scratch('to', [S, K])]
    return () => b.groupedLinearBackwardInput({ dX: to, dY: from, weight, offsets })
  })
  const weights = await timedOp(backend, 'groupedLinearBackwardWeight', repeats, (b) => {
    const [from, tokens] = [operand(b, 'dY', dY, slotPositions), operand(b, 'from', x, positions)]
    return () => b.groupedLinearBackwardWeight({ dWeight, dY: from, x: tokens, offsets, rowsX: rows })
  })
  return { ops: { forward, input, weight: weights }, release: () => backend.release(all) }
}

/** Whom a table is held against; `ask` gives seconds, or is undefined where the peer is absent. `goal`: of the mean over its shapes. */
type Rival = { name: string; goal?: string; ask?: ((shape: Shape, repeats: number) => Promise<number>) | undefined }
type Shape = { label: string; flops: number; oneDnn: string; torch: TorchQuestion; open: (repeats: number) => Promise<{ ops: Ops; release(): void }> }
/** One table of shapes: own forward against the rivals, and all three products against the peak. */
type Table = { group: string; title: string; rivals: readonly Rival[]; isKept: boolean }

async function table(context: BenchContext, backend: CpuBackend, { group, title, rivals, isKept }: Table, shapes: readonly Shape[]): Promise<void> {
  const ratios = rivals.map((): number[] => [])
  const medians = rivals.map((): number[] => [])
  const shares: Record<keyof Ops, number[]> = { forward: [], input: [], weight: [] }
  for (const shape of shapes) {
    const { label, flops } = shape
    const repeats = repeatsFor(flops, backend.precision === 'mixed' ? 4e11 : 2e11)
    const { ops, release } = await shape.open(repeats)
    const asks = Object.fromEntries(rivals.flatMap(({ name, ask }) => (ask ? [[name, () => ask(shape, repeats)]] : [])))
    // The fastest of five peaks will do: one takes as long as all the rest of a round.
    let round = 0
    const peak = async (): Promise<number> => (round++ % 5 === 0 ? flops / (await backend.measurePeak()) : Infinity)
    const times = await interleave<string>(rounds, { ...ops, ...asks, peak })
    release()
    for (const name of ['forward', 'input', 'weight'] as const) shares[name].push(ratioOf(times.peak!, times[name]!).ratio)
    const speeds = times.forward!.map((seconds) => flops / seconds / 1e9)
    for (const [i, { name, ask }] of rivals.entries()) {
      const against = ask ? ratioOf(times[name]!, times.forward!) : { ratio: null }
      if ('medianRatio' in against) {
        ratios[i]!.push(against.ratio)
        medians[i]!.push(against.medianRatio)
      }
      context.show({ group, name: `${title} ${label}`, value: median(speeds), unit: 'GFLOP/s', peer: ask ? name : `${name}: absent`, ...against, spread: spreadOf(speeds) })
    }
  }
  for (const [i, { name, ask, goal }] of rivals.entries()) {
    if (!ask) continue
    const ratio = geometricMean(ratios[i]!)
    context.show({ group, name: `${title}, geometric mean`, value: ratio, unit: 'x', peer: name, ratio, medianRatio: geometricMean(medians[i]!), spread: spreadOf(ratios[i]!), ...(goal && { goal }) })
  }
  const names = { forward: ['forward', '>= 0.85'], input: ['input gradient', '>= 0.85'], weight: ['weight gradient', '>= 0.75'] } as const
  for (const name of ['forward', 'input', 'weight'] as const) {
    // No weight is packed for a weight gradient: it is in the other table.
    if (isKept && name === 'weight') continue
    context.show({ group, name: `${title}, ${names[name][0]}, geometric mean`, value: geometricMean(shares[name]), unit: 'of peak', peer: 'measured peak', ratio: geometricMean(shares[name]), spread: spreadOf(shares[name]), goal: names[name][1] })
  }
}

/** The rivals of one table. torch keeps no packed weights of groups. */
function rivalsOf(torch: Torch | undefined, oneDnn: OneDnn | undefined, type: 'bf16' | 'f32', of: 'dense' | 'grouped', isKept: boolean): Rival[] {
  const goal = of === 'grouped' ? '>= 1.20' : type === 'bf16' ? '>= 1.00, none < 0.93' : '>= 1.10'
  const ofGroups = of === 'grouped' ? ' with the gather' : ''
  const torchName = `torch${torch ? ` ${torch.versions.torch}` : ''} ${type}${of === 'grouped' ? ' grouped_mm' : ''}${isKept && of === 'dense' ? ', packed' : ''}${ofGroups}`
  const oneDnnName = `oneDNN${oneDnn ? ` ${oneDnn.version}` : ''} ${type}${isKept ? ', packed' : ''}${of === 'grouped' ? ' per expert,' : ''}${ofGroups}`
  return [
    // torch's own float32 packing is oneDNN's, no peer of a bar.
    { name: torchName, ...(!(isKept && of === 'dense' && type === 'f32') && { goal }), ask: torch && ((shape, repeats) => torch.ask({ ...shape.torch, repeats })) },
    { name: oneDnnName, ask: oneDnn && ((shape, repeats) => oneDnn.ask(`${shape.oneDnn} ${repeats}`)) },
  ]
}

/** Both tables of one precision. */
async function tables(context: BenchContext, precision: Precision, isKept: boolean): Promise<void> {
  const backend = createCpuBackend({ precision, keepsWeights: isKept })
  if (backend.precision !== precision) {
    context.note(`this processor multiplies no bf16: ${precision} is not measured`)
    return backend.close()
  }
  const [torch, oneDnn] = [await openTorch(backend.threads), await openOneDnn(backend.threads)]
  const type = precision === 'mixed' ? 'bf16' : 'f32'
  const title = (of: string): string => `${of} ${type}${isKept ? ', kept' : ''}`
  await table(context, backend, { group: precision === 'mixed' ? 'G1' : 'G2', title: title('dense'), rivals: rivalsOf(torch, oneDnn, type, 'dense', isKept), isKept }, denseShapes.map((shape) => ({
    label: shape.join(' x '),
    flops: 2 * shape[0] * shape[1] * shape[2],
    oneDnn: `${isKept ? 'packed' : 'dense'} ${type} ${shape.join(' ')}`,
    torch: { op: 'dense', dtype: type, shape, packed: isKept },
    open: (repeats) => denseOps(backend, shape, repeats),
  })))
  await table(context, backend, { group: 'G3', title: title('grouped'), rivals: rivalsOf(torch, oneDnn, type, 'grouped', isKept), isKept }, groupedShapes.map((shape) => {
    const [T, E, k, N, K] = shape
    return {
      label: `${T} tokens E${E} k${k} ${N} x ${K}`,
      flops: 2 * T * k * N * K,
      oneDnn: `${isKept ? 'groupedPacked' : 'grouped'} ${type} ${E} ${(T * k) / E} ${N} ${K}`,
      torch: { op: 'grouped', dtype: type, bounds: boundsOf(T * k, E), tokens: T, shape: [N, K] },
      open: (repeats) => groupedOps(backend, shape, repeats),
    }
  }))
  torch?.close()
  oneDnn?.close()
  await backend.close()
}

export const bench: Bench = {
  title: 'matrix products',
  async run(context) {
    for (const precision of ['mixed', 'float32'] as const) {
      if (context.only && context.only !== precision) continue
      for (const isKept of [false, true]) await tables(context, precision, isKept)
    }
  },
}
