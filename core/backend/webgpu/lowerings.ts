/**
 * The lowering of every op: one row each, most of them a kernel of the op's own name. How they split work is said here once,
 * what each kernel computes stands in its file. Matrix products are written once for dense and head.
 */
import { elementCount, type InferenceOp, type OpName, type Tensor } from '../backend.ts'
import { attentionLowerings } from './lowerings-attention.ts'
import { elementGroups as elements, foldGroups as rows, windowsOf, type Call, type Lowering, type Part } from './call.ts'

const ceilDiv = (a: number, b: number): number => Math.ceil(a / b)
/** Rows of a tile of slots or tokens in every form of the matrix product. */
const tileRows = 64
/** Bytes of logits of the head that exist at one time. */
const logitsBytes = 64 << 20
/** Workgroups that keep a large card busy; tokens of a weight gradient are split until there are as many. */
const busyGroups = 512

const isScalar = (...widths: number[]): boolean => widths.some((width) => width % 4 !== 0)

/** Rows `from`..`from + count` of a tensor; undefined stays so. */
const part = (tensor: Tensor | undefined, from: number, count: number): Part | undefined => tensor && { tensor, from, count }

type Linear = { T: number; N: number; J: number }

/** y = x·weightᵀ + add. */
function linearForward(c: Call, { T, N, J }: Linear, t: { y: Part; x: Part; weight: Tensor; add?: Part | undefined }): void {
  const scalar = isScalar(N, J)
  for (const { from, count } of windowsOf(N, J, c.maxBindingBytes)) {
    c.dispatch('linearForward', {
      tensors: { ...t, add: t.add, weight: part(t.weight, from, count) },
      params: { T, N, J, nFrom: from, nCount: count, hasAdd: Number(t.add !== undefined) },
      groups: [ceilDiv(count, c.tileColumns(scalar)), ceilDiv(T, tileRows)],
      scalar,
    })
  }
}

/** dX = dY·weight + add. */
function linearBackwardInput(c: Call, { T, N, J }: Linear, t: { dX: Part; dY: Part; weight: Tensor; add?: Part | undefined }): void {
  const scalar = isScalar(N, J)
  for (const { from, count } of windowsOf(N, J, c.maxBindingBytes)) {
    const add = from === 0 ? t.add : undefined
    c.dispatch('linearBackwardInput', {
      tensors: { ...t, add, weight: part(t.weight, from, count) },
      params: { T, N, J, nFrom: from, nCount: count, hasAdd: Number(add !== undefined) },
      groups: [ceilDiv(J, c.tileColumns(scalar)), ceilDiv(T, tileRows)],
      scalar,
    })
  }
}

/** dWeight += dYᵀ·x. */
function linearBackwardWeight(c: Call, { T, N, J }: Linear, t: { dWeight: Tensor; dY: Part; x: Part }): void {
  const scalar = isScalar(N, J)
  for (const { from, count } of windowsOf(N, J, c.maxBindingBytes)) {
    const [across, down] = [ceilDiv(J, c.tileColumns(scalar)), ceilDiv(count, tileRows)]
    const room = Math.max(1, Math.floor(c.maxBindingBytes / (count * J * 4)))
    const splits = Math.max(1, Math.min(Math.floor(busyGroups / (across * down)), Math.floor(T / 256), 64, room))
    const dWeight = part(t.dWeight, from, count)!
    const partials = splits > 1 ? c.hidden('partials', [splits, count, J]) : null
    c.dispatch('linearBackwardWeight', {
      tensors: { ...t, dWeight: partials ?? dWeight },
      params: { T, N, J, nFrom: from, nCount: count, tokens: ceilDiv(ceilDiv(T, splits), 4) * 4, accumulate: Number(partials === null) },
      groups: [across, down, splits],
      scalar,
    })
    if (partials) c.dispatch('addPartials', { tensors: { sum: dWeight, partials }, params: { count: count * J, parts: splits }, groups: elements(count * J) })
  }
}

/** The list of tiles over a record's offsets, made once for all products that read the same ones. */
function tilesOver(c: Call, S: number): { tiles: Tensor; count: number } {
  const { E } = c.n
  const count = ceilDiv(S, tileRows) + E!
  const tiles = c.derived(c.t.offsets!, 'tiles', () => {
    const made = c.hidden('tiles', [count, 2], 'i32')
    c.dispatch('moeTiles', { tensors: { tiles: made }, params: { maxTiles: count }, groups: [1] })
    return made
  })
  return { tiles, count }
}

/** A product of every expert's slots with its weight: columns of the result, one dispatch per window of experts. */
function groupedLinear(c: Call, kernel: string, columns: number): void {
  const { E, N, J, S } = c.n as Record<string, number>
  const { tiles, count: tileCount } = tilesOver(c, S!)
  const scalar = isScalar(N!, J!)
  for (const { from, count } of windowsOf(E!, N! * J!, c.maxBindingBytes)) {
    c.dispatch(kernel, {
      tensors: { tiles, weight: part(c.t.weight, from, count) },
      params: { eFrom: from, eCount: count },
      groups: [ceilDiv(columns, c.tileColumns(scalar)), tileCount],
      scalar,
    })
  }
}

function groupedLinearBackwardWeight(c: Call): void {
  const { E, N, J } = c.n as Record<string, number>
  const scalar = isScalar(N!, J!)
  for (const { from, count } of windowsOf(E!, N! * J!, c.maxBindingBytes)) {
    c.dispatch('groupedLinearBackwardWeight', {
      tensors: { dWeight: part(c.t.dWeight, from, count) },
      params: { eFrom: from },
      groups: [ceilDiv(J!, c.tileColumns(scalar)), ceilDiv(N!, tileRows), count],
      scalar,
    })
  }
}

/** The head by chunks of tokens: their logits, and what `use` makes of them. */
function headChunks(c: Call, use: (chunk: { count: number; logits: Tensor; rows: (name: string) => Part }) => void): void {
  const { T, V, D } = c.n as Record<string, number>
  const bytes = Math.min(logitsBytes, c.maxBindingBytes)
  const most = Math.max(tileRows, Math.floor(bytes / (V! * 4) / tileRows) * tileRows)
  const logits = c.hidden('logits', [Math.min(most, T!), V!])
  for (let from = 0; from < T!; from += most) {
    const count = Math.min(most, T! - from)
    const rowsOf = (name: string): Part => part(c.t[name], from, count)!
    linearForward(c, { T: count, N: V!, J: D! }, { y: part(logits, 0, count)!, x: rowsOf('x'), weight: c.t.weight! })
    use({ count, logits, rows: rowsOf })
  }
}

function headCrossEntropyForward(c: Call): void {
  headChunks(c, ({ count, logits, rows: of }) => {
    c.dispatch('headCrossEntropyForward', {
      tensors: { loss: of('loss'), lse: of('lse'), targets: of('targets'), logits: part(logits, 0, count) },
      params: { T: count },
      groups: rows(count),
    })
  })
}

function headCrossEntropyBackward(c: Call): void {
  const { V, D } = c.n as Record<string, number>
  headChunks(c, ({ count, logits, rows: of }) => {
    const chunk = part(logits, 0, count)!
    c.dispatch('headCrossEntropyBackward', {
      tensors: { logits: chunk, targets: of('targets'), lse: of('lse'), dLoss: of('dLoss') },
      params: { T: count },
      groups: elements(count * V!),
    })
    linearBackwardInput(c, { T: count, N: V!, J: D! }, { dX: of('dX'), dY: chunk, weight: c.t.weight! })
    linearBackwardWeight(c, { T: count, N: V!, J: D! }, { dWeight: c.t.dWeight!, dY: chunk, x: of('x') })
  })
}

function embedForward(c: Call): void {
  const { T, D, V } = c.n as Record<string, number>
  for (const { from, count } of windowsOf(V!, D!, c.maxBindingBytes)) {
    c.dispatch('embedForward', { tensors: { weight: part(c.t.weight, from, count) }, params: { vFrom: from, vCount: count }, groups: elements(T! * D!) })
  }
}

function embedBackward(c: Call): void {
  const { T, D, V } = c.n as Record<string, number>
  for (const { from, count } of windowsOf(V!, D!, c.maxBindingBytes)) {
    c.dispatch('embedBackward', { tensors: { dWeight: part(c.t.dWeight, from, count) }, params: { vFrom: from, vCount: count }, groups: rows(T!) })
  }
}

function rmsNormBackward(c: Call): void {
  const { T, D } = c.n as Record<string, number>
  const blocks = ceilDiv(T!, 64)
  c.dispatch('rmsNormBackward', { groups: rows(T!) })
  const partials = c.hidden('partials', [blocks, D!])
  c.dispatch('rmsNormBackwardWeight', { tensors: { partials }, groups: [ceilDiv(D!, 64), blocks] })
  c.dispatch('addPartials', { tensors: { sum: c.t.dWeight, partials }, params: { count: D!, parts: blocks }, groups: elements(D!) })
}

function routerLossForward(c: Call): void {
  const { E } = c.n as Record<string, number>
  const terms = c.hidden('terms', [E! + 1])
  c.dispatch('routerLossForward', { tensors: { terms }, groups: [E! + 1] })
  c.dispatch('routerLossTotal', { tensors: { terms }, groups: [1] })
}

function moeDispatchForward(c: Call): void {
  const { T, K, E } = c.n as Record<string, number>
  const blocks = ceilDiv(T! * K!, 256)
  const blockCounts = c.hidden('blockCounts', [blocks, E!], 'i32')
  const params = { S: T! * K!, blocks }
  c.dispatch('moeDispatchCount', { tensors: { blockCounts }, params, groups: rows(blocks) })
  c.dispatch('moeDispatchScan', { tensors: { blockCounts }, params, groups: [1] })
  c.dispatch('moeDispatchScatter', { tensors: { blockCounts }, params, groups: rows(blocks) })
}

/** A tensor of any shape in windows of elements that one binding may hold. */
function elementWindows(c: Call, name: string): { from: number; count: number }[] {
  return windowsOf(elementCount(c.t[name]!), 1, c.maxBindingBytes)
}

function sumOfSquares(c: Call): void {
  const perGroup = 4096
  const parts = elementWindows(c, 'x').map((window) => ({ ...window, groups: ceilDiv(window.count, perGroup) }))
  const sums = c.hidden('sums', [parts.reduce((sum, { groups }) => sum + groups, 0)])
  let first = 0
  for (const { from, count, groups } of parts) {
    c.dispatch('sumOfSquares', { tensors: { x: c.slice('x', from, count), sums }, params: { count, first, perGroup }, groups: rows(groups) })
    first += groups
  }
  c.dispatch('sumOfSquaresTotal', { tensors: { sums }, params: { count: first }, groups: [1] })
}

function adamwStep(c: Call): void {
  for (const { from, count } of elementWindows(c, 'param')) {
    const of = (name: string): Part => c.slice(name, from, count)
    c.dispatch('adamwStep', { tensors: { param: of('param'), m: of('m'), v: of('v'), grad: of('grad') }, params: { count }, groups: elements(count) })
  }
}

/** An op that is one kernel of its own name. */
const kernel = (op: OpName, groups: (n: Record<string, number>) => readonly [number, number]): Lowering => (c) => c.dispatch(op, { groups: groups(c.n as Record<string, number>) })

/** Without the ops for inference on packed weights, which lower.ts refuses. */
export const lowerings: Readonly<Record<Exclude<OpName, InferenceOp>, Lowering>> = {
  embedForward,
  embedBackward,
  rmsNormForward: kernel('rmsNormForward', ({ T }) => rows(T!)),
  rmsNormBackward,
  layerNormForward: kernel('layerNormForward', ({ T }) => rows(T!)),
  layerNormBackward: kernel('layerNormBackward', ({ T }) => rows(T!)),
  linearForward: (c) => linearForward(c, c.n as Linear, { y: c.t.y!, x: c.t.x!, weight: c.t.weight!, add: c.t.add }),
  linearBackwardInput: (c) => linearBackwardInput(c, c.n as Linear, { dX: c.t.dX!, dY: c.t.dY!, weight: c.t.weight!, add: c.t.add }),
  linearBackwardWeight: (c) => linearBackwardWeight(c, c.n as Linear, { dWeight: c.t.dWeight!, dY: c.t.dY!, x: c.t.x! }),
  ...attentionLowerings,
  routerSoftmaxForward: kernel('routerSoftmaxForward', ({ T }) => elements(T!)),
  routerTopKForward: kernel('routerTopKForward', ({ T }) => elements(T!)),
  routerGateForward: kernel('routerGateForward', ({ T }) => elements(T!)),
  routerLossForward,
  routerBackward: kernel('routerBackward', ({ T }) => elements(T!)),
  addCountsForward: kernel('addCountsForward', () => [1, 1]),
  expertChoiceForward: kernel('expertChoiceForward', ({ T, E, sequence }) => rows((T! / sequence!) * E!)),
  expertChoiceBackward: kernel('expertChoiceBackward', ({ T }) => elements(T!)),
  moeDispatchForward,
  groupedLinearForward: (c) => groupedLinear(c, 'groupedLinearForward', c.n.N!),
  groupedLinearBackwardInput: (c) => groupedLinear(c, 'groupedLinearBackwardInput', c.n.J!),
  groupedLinearBackwardWeight,
  swigluForward: kernel('swigluForward', ({ S, F }) => elements(S! * F!)),
  swigluBackward: kernel('swigluBackward', ({ S }) => rows(S!)),
  denseSwigluForward: kernel('denseSwigluForward', ({ T, F }) => elements(T! * F!)),
  denseSwigluBackward: kernel('denseSwigluBackward', ({ T, F }) => elements(T! * F!)),
  moeCombineForward: kernel('moeCombineForward', ({ T, D }) => elements(T! * D!)),
  headCrossEntropyForward,
  headCrossEntropyBackward,
  weightedSumForward: kernel('weightedSumForward', () => [1, 1]),
  gatherRowsForward: kernel('gatherRowsForward', ({ R, D }) => elements(R! * D!)),
  sumOfSquares,
  clipScale: kernel('clipScale', () => [1, 1]),
  adamwStep,
}
