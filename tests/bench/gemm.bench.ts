/**
 * G1–G3: matrix products at the shapes of training, against oneDNN in the same seconds and against the measured peak. Operands lie in
 * memory as a training step has them: bf16 activations in and out, float32 weights. "kept" rows have the weights packed beforehand on
 * both sides, as they are from the second micro-batch of a step on; the others pack (and round) them in every call.
 * One precision alone: `gemm:mixed`, `gemm:float32`.
 */
import { persistent, type Recording, type Tensor } from '#core/backend/backend.ts'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { geometricMean, interleave, median, ratioOf, repeatsFor, spreadOf, timedOp, type Bench, type BenchContext } from './measure.ts'
import { openOneDnn, type OneDnn } from './onednn.ts'

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
  // Experts of unequal size, as a router leaves them: half to one and a half times the mean.
  const shares = Array.from({ length: E }, (_, e) => 0.5 + ((e * 7) % E) / Math.max(1, E - 1))
  const total = shares.reduce((a, b) => a + b, 0)
  const bounds = [0]
  for (let e = 0, sum = 0; e < E; e++) bounds.push(e === E - 1 ? S : Math.round((S * (sum += shares[e]!)) / total))
  await backend.write(offsets, Int32Array.from(bounds))
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

/** One table of shapes: own forward against the peer, and all three products against the peak. */
type Table = { group: string; title: string; peer: OneDnn | undefined; peerName: string; goal: string; isKept: boolean }
type Shape = { label: string; flops: number; command: string; open: (repeats: number) => Promise<{ ops: Ops; release(): void }> }

async function table(context: BenchContext, backend: CpuBackend, { group, title, peer, peerName, goal, isKept }: Table, shapes: readonly Shape[]): Promise<void> {
  const ratios: number[] = []
  const shares: Record<keyof Ops, number[]> = { forward: [], input: [], weight: [] }
  for (const { label, flops, command, open } of shapes) {
    const repeats = repeatsFor(flops, backend.precision === 'mixed' ? 4e11 : 2e11)
    const { ops, release } = await open(repeats)
    // The fastest of five peaks will do: one takes as long as all the rest of a round.
    let round = 0
    const times = await interleave(rounds, { ...ops, ...(peer && { peer: () => peer.ask(`${command} ${repeats}`) }), peak: async () => (round++ % 5 === 0 ? flops / (await backend.measurePeak()) : Infinity) } as Ops & { peer: () => Promise<number>; peak: () => Promise<number> })
    release()
    for (const name of ['forward', 'input', 'weight'] as const) shares[name].push(ratioOf(times.peak, times[name]).ratio)
    const against = peer ? ratioOf(times.peer, times.forward) : { ratio: null }
    if (against.ratio !== null) ratios.push(against.ratio)
    const speeds = times.forward.map((seconds) => flops / seconds / 1e9)
    context.show({ group, name: `${title} ${label}`, value: median(speeds), unit: 'GFLOP/s', peer: peer ? peerName : `${peerName}: absent`, ...against, spread: spreadOf(speeds) })
  }
  if (ratios.length > 0) context.show({ group, name: `${title}, geometric mean`, value: geometricMean(ratios), unit: 'x', peer: peerName, ratio: geometricMean(ratios), spread: spreadOf(ratios), goal })
  const names = { forward: ['forward', '>= 0.85'], input: ['input gradient', '>= 0.85'], weight: ['weight gradient', '>= 0.75'] } as const
  for (const name of ['forward', 'input', 'weight'] as const) {
    // No weight is packed for a weight gradient: it is in the other table.
    if (isKept && name === 'weight') continue
    context.show({ group, name: `${title}, ${names[name][0]}, geometric mean`, value: geometricMean(shares[name]), unit: 'of peak', peer: 'measured peak', ratio: geometricMean(shares[name]), spread: spreadOf(shares[name]), goal: names[name][1] })
  }
}

/** Both tables of one precision. */
async function tables(context: BenchContext, precision: Precision, isKept: boolean): Promise<void> {
  const backend = createCpuBackend({ precision, keepsWeights: isKept })
  if (backend.precision !== precision) {
    context.note(`this processor multiplies no bf16: ${precision} is not measured`)
    return backend.close()
  }
  const peer = await openOneDnn(backend.threads)
  const type = precision === 'mixed' ? 'bf16' : 'f32'
  const peerName = peer ? `oneDNN ${peer.version} ${type}${isKept ? ', packed' : ''}` : `oneDNN ${type}`
  const title = (of: string): string => `${of} ${type}${isKept ? ', kept' : ''}`
  const [group, goal] = precision === 'mixed' ? ['G1', '>= 1.00, none < 0.93'] : ['G2', '>= 1.10 of torch (absent)']
  await table(context, backend, { group, title: title('dense'), peer, peerName, goal, isKept }, denseShapes.map((shape) => ({
    label: shape.join(' x '),
    flops: 2 * shape[0] * shape[1] * shape[2],
    command: `${isKept ? 'packed' : 'dense'} ${type} ${shape.join(' ')}`,
    open: (repeats) => denseOps(backend, shape, repeats),
  })))
  await table(context, backend, { group: 'G3', title: title('grouped'), peer, peerName: `${peerName} per expert, with the gather`, goal: '>= 1.20', isKept }, groupedShapes.map((shape) => {
    const [T, E, k, N, K] = shape
    return {
      label: `${T} tokens E${E} k${k} ${N} x ${K}`,
      flops: 2 * T * k * N * K,
      command: `${isKept ? 'groupedPacked' : 'grouped'} ${type} ${E} ${(T * k) / E} ${N} ${K}`,
      open: (repeats) => groupedOps(backend, shape, repeats),
    }
  }))
  peer?.close()
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
