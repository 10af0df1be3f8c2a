/**
 * The op cases: sizes, inputs, tolerance and cost of every op. One case gives conformance of every backend against the referee,
 * the finite-difference check of its gradient, and a row of the benchmark.
 * To add an op: its row in backend.ts, its loop in reference-ops.ts, one kernel per backend, and cases here.
 *
 * Shapes come from the op's row and `sizes`. Floats are normal(0, 1) unless given; integers must be given.
 * Top-k is discrete: router cases draw logits whose margin is far above any tolerance.
 */
import { opTable, type DType, type OpName, type PackedDType } from '#core/backend/backend.ts'
import { packRows } from '#core/backend/packed.ts'
import { argumentKind, opArguments } from '#core/backend/record.ts'
import { encodeRows } from '#core/shared/quantization.ts'
import { createRandom, permutation } from '#core/shared/random.ts'

export type Sizes = Readonly<Record<string, number>>
export type Given = Readonly<Record<string, (sizes: Sizes) => number[] | Float64Array | Int32Array>>

export type OpCase = {
  readonly op: OpName
  readonly label: string
  readonly sizes: Sizes
  readonly attrs: Readonly<Record<string, number>>
  readonly given: Given
  /** Optional tensors that are passed; the others are left out. */
  readonly optional: readonly string[]
  /** Form of the `packed` arguments. */
  readonly packed?: PackedDType
  /** Largest |found − expected| over max(|expected|) of an output, for float32 backends. */
  readonly tolerance: number
  /** Floating-point operations of one run at given sizes (the benchmark asks for others than the case's own). */
  readonly flops: (sizes: Sizes, attrs: Readonly<Record<string, number>>) => number
}

/** Evaluates one dim of an op's row under sizes. */
export function dimSize(dim: string, sizes: Sizes): number {
  if (/^\d+$/.test(dim)) return Number(dim)
  if (dim.includes('+')) {
    const [base = '', addend = '0'] = dim.split('+')
    return dimSize(base, sizes) + Number(addend)
  }
  return dim.split('*').reduce((product, factor) => {
    const size = /^\d+$/.test(factor) ? Number(factor) : sizes[factor]
    if (size === undefined) throw new Error(`the case gives no size for "${factor}"`)
    return product * size
  }, 1)
}

/** Shape and dtype of an argument under sizes; an any-shape argument `*` is [M]. */
export function argumentShape(dims: string, sizes: Sizes, packed: PackedDType = 'q8'): { dtype: DType; shape: number[] } {
  const { kind, dims: text } = argumentKind(dims)
  if (text === '*') return { dtype: 'f32', shape: [sizes.X ?? 0] }
  return { dtype: kind === 'packed' ? packed : kind, shape: text.split(' ').map((dim) => dimSize(dim, sizes)) }
}

/** The bytes of a packed argument: normal(0, 1) rounded to its form. */
export function packedData(opCase: OpCase, name: string, dtype: PackedDType): Uint8Array {
  const shape = caseArguments(opCase).find((argument) => argument.name === name)!.shape
  const [rows, width] = shape.slice(-2) as [number, number]
  const random = createRandom(7, `${opCase.op}/${opCase.label}/${name}`)
  const matrices = Array.from({ length: shape.slice(0, -2).reduce((a, b) => a * b, 1) }, () => packRows(dtype, encodeRows(dtype, Float32Array.from({ length: rows * width }, () => random.nextNormal()), width), width))
  return Buffer.concat(matrices)
}

/** The numbers of one argument: given, or normal(0, 1) seeded by case and name, rounded to float32. */
export function argumentData(opCase: OpCase, name: string, dtype: DType, count: number): Float64Array | Int32Array {
  const given = opCase.given[name]?.(opCase.sizes)
  if (dtype === 'i32') {
    if (!given) throw new Error(`${opCase.op} ${opCase.label}: integers of ${name} must be given`)
    return Int32Array.from(given)
  }
  if (given) return Float64Array.from(given, Math.fround)
  const random = createRandom(7, `${opCase.op}/${opCase.label}/${name}`)
  return Float64Array.from({ length: count }, () => Math.fround(random.nextNormal()))
}

const size = (sizes: Sizes, letter: string): number => dimSize(letter, sizes)
const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

/** Integers below `bound`, seeded. */
const below = (letterCount: string, letterBound: string) => (s: Sizes) => {
  const random = createRandom(11, `${letterCount}/${letterBound}`)
  return range(size(s, letterCount)).map(() => random.nextBelow(size(s, letterBound)))
}

/** K distinct experts per token: random, or all slots on the lowest K (`crowded`). */
const chosen = (crowded: boolean) => (s: Sizes) => {
  const random = createRandom(13, 'experts')
  const [E, K] = [size(s, 'E'), size(s, 'K')]
  return range(size(s, 'T')).flatMap(() => (crowded ? range(K) : [...permutation(E, random).slice(0, K)]))
}

/** Prefix sums of group sizes. */
const offsetsOf = (sizesOfGroups: number[]) => () => {
  const offsets = [0]
  for (const count of sizesOfGroups) offsets.push(offsets.at(-1)! + count)
  return offsets
}

const shuffled = (letter: string) => (s: Sizes) => [...permutation(size(s, letter), createRandom(17, letter))]
const positive = (letters: string) => (s: Sizes) => {
  const random = createRandom(19, letters)
  return range(letters.split(' ').reduce((p, l) => p * size(s, l), 1)).map(() => 0.1 + random.nextFloat())
}
/** Router logits with a gap of at least 0.05 between any two of a token. */
const spacedLogits = (s: Sizes) => {
  const random = createRandom(23, 'logits')
  return range(size(s, 'T')).flatMap(() => [...permutation(size(s, 'E'), random)].map((rank) => 0.3 * rank - 0.1 * size(s, 'E') + 0.2 * random.nextFloat()))
}
const softmaxRows = (s: Sizes) => {
  const logits = spacedLogits(s)
  const E = size(s, 'E')
  return logits.map((value, i) => {
    const row = logits.slice(i - (i % E), i - (i % E) + E)
    return Math.exp(value) / row.reduce((sum, x) => sum + Math.exp(x), 0)
  })
}

type Draft = { label: string; sizes: Sizes; attrs?: Record<string, number>; given?: Given; optional?: string[]; tolerance?: number }

function cases(op: OpName, flops: OpCase['flops'], drafts: Draft[]): OpCase[] {
  return drafts.map((draft) => {
    const attrs = draft.attrs ?? {}
    const sizes = { ...draft.sizes, ...Object.fromEntries(Object.entries(attrs).filter(([name]) => /^[A-Z]$/.test(name))) }
    return { op, label: draft.label, sizes, attrs, given: draft.given ?? {}, optional: draft.optional ?? [], tolerance: draft.tolerance ?? 2e-6, flops }
  })
}

const product = (...letters: string[]) => (s: Sizes) => letters.reduce((p, letter) => p * size(s, letter), 1)
const scaled = (factor: number, ...letters: string[]) => (s: Sizes) => factor * product(...letters)(s)

const linearSizes: Draft[] = [
  { label: 'even', sizes: { T: 32, N: 48, J: 64 } },
  { label: 'odd', sizes: { T: 13, N: 7, J: 19 }, optional: ['add'] },
  { label: 'one row', sizes: { T: 1, N: 33, J: 65 } },
  { label: 'past every tile', sizes: { T: 131, N: 259, J: 517 }, optional: ['add'], tolerance: 4e-6 },
  { label: 'widths of four', sizes: { T: 130, N: 132, J: 68 }, optional: ['add'] },
  { label: 'many tokens', sizes: { T: 1100, N: 20, J: 12 }, tolerance: 4e-6 },
]
const withoutAdd = linearSizes.map((draft) => ({ ...draft, optional: [] }))

const groups: { label: string; counts: number[] }[] = [
  { label: 'ragged with empty experts', counts: [5, 0, 13, 1, 0, 29] },
  { label: 'one expert takes all', counts: [0, 48, 0, 0] },
  { label: 'one expert', counts: [37] },
  { label: 'past every tile', counts: [140, 3, 70] },
  { label: 'widths of four', counts: [65, 0, 130, 7] },
]
/** Widths by label: vector forms of the kernels need multiples of four, and must not be needed. */
const groupWidths: Record<string, { N: number; J: number }> = { 'past every tile': { N: 70, J: 150 }, 'widths of four': { N: 72, J: 140 } }
const grouped = (optional: string[]): Draft[] =>
  groups.flatMap(({ label, counts }) => {
    const S = counts.reduce((a, b) => a + b, 0)
    const R = Math.ceil(S / 2)
    const sizes = { S, E: counts.length, ...(groupWidths[label] ?? { N: 12, J: 17 }) }
    const plain = { R: S, Y: S, X: S }
    const gather = (name: string) => ({ [name]: (s: Sizes) => range(S).map((i) => (i * 7 + 3) % size(s, 'R')) })
    const offsets = offsetsOf(counts)
    return [
      { label, sizes: { ...sizes, ...plain }, given: { offsets } },
      ...optional.map((rows) => ({
        label: `${label}, ${rows}`,
        sizes: { ...sizes, ...plain, R, ...(rows === 'rowsY' ? { Y: R } : { X: R }) },
        given: { offsets, ...gather(rows) },
        optional: [rows],
      })),
    ]
  })

const attentionSizes: Draft[] = [
  { label: 'one sequence', sizes: { T: 24, C: 8 }, attrs: { H: 2, G: 2, sequence: 24 } },
  { label: 'grouped heads, two sequences, odd length', sizes: { T: 38, C: 6 }, attrs: { H: 4, G: 2, sequence: 19 } },
  { label: 'past every block', sizes: { T: 300, C: 16 }, attrs: { H: 2, G: 1, sequence: 150 } },
  { label: 'single tokens', sizes: { T: 3, C: 4 }, attrs: { H: 1, G: 1, sequence: 1 } },
]
const attentionGiven = (s: Sizes) => range(size(s, 'T') * size(s, 'H')).map((i) => 2.5 + 0.3 * Math.sin(i))

const moeSizes: Draft[] = [
  { label: 'top-2 of 8', sizes: { T: 17, E: 8, K: 2 } },
  { label: 'top-4 of 16', sizes: { T: 33, E: 16, K: 4 } },
  { label: 'dense twin', sizes: { T: 9, E: 1, K: 1 } },
  { label: 'all of 5', sizes: { T: 6, E: 5, K: 5 } },
]
const dispatchGiven = { experts: chosen(false) }
const gateGiven = { probs: softmaxRows, experts: chosen(false) }
const slotsGiven = { gate: positive('T K'), slotIndex: shuffled('S') }
const withSlots = (draft: Draft, F: number): Draft => ({ ...draft, sizes: { ...draft.sizes, S: draft.sizes.T! * draft.sizes.K!, F }, given: slotsGiven })

const choiceSizes: Draft[] = [
  { label: 'two sequences', sizes: { T: 24, E: 5, S: 40 }, attrs: { sequence: 12, capacity: 4 }, given: { probs: softmaxRows } },
  { label: 'all tokens', sizes: { T: 7, E: 3, S: 21 }, attrs: { sequence: 7, capacity: 7 }, given: { probs: softmaxRows } },
  { label: 'one token', sizes: { T: 300, E: 70, S: 210 }, attrs: { sequence: 100, capacity: 1 }, given: { probs: softmaxRows } },
  { label: 'of equals the earlier', sizes: { T: 140, E: 2, S: 100 }, attrs: { sequence: 140, capacity: 50 }, given: { probs: (s) => range(size(s, 'T') * 2).map((i) => [0.25, 0.75, 0.5, 0.5][(i >> 2) % 4]!) } },
]
const denseSizes: Draft[] = [
  { label: 'odd', sizes: { T: 9, F: 35 } },
  { label: 'even', sizes: { T: 40, F: 64 } },
]
const normSizes: Draft[] = [
  { label: 'even', sizes: { T: 16, D: 64 } },
  { label: 'odd', sizes: { T: 7, D: 37 } },
  { label: 'many rows', sizes: { T: 301, D: 20 } },
]
const ropeSizes: Draft[] = [
  { label: 'two heads', sizes: { T: 12, C: 8 }, attrs: { H: 2, theta: 10000 }, given: { positions: (s) => range(size(s, 'T')).map((t) => t * 37) } },
  { label: 'odd count', sizes: { T: 5, C: 6 }, attrs: { H: 3, theta: 500 }, given: { positions: (s) => range(size(s, 'T')) } },
]
const headSizes: Draft[] = [
  { label: 'some ignored', sizes: { T: 13, D: 24, V: 50 }, given: { targets: (s) => range(size(s, 'T')).map((t) => (t % 4 === 0 ? -1 : (t * 11) % size(s, 'V'))) } },
  { label: 'past every block', sizes: { T: 200, D: 33, V: 307 }, given: { targets: below('T', 'V') }, tolerance: 4e-6 },
  { label: 'widths of four', sizes: { T: 70, D: 36, V: 132 }, given: { targets: below('T', 'V') } },
]
/** lse that belongs to x and weight of a head case, as the forward would give. */
const headLse = (draft: Draft): Given => ({
  lse: (s) => {
    const base: OpCase = { op: 'headCrossEntropyBackward', label: draft.label, sizes: s, attrs: {}, given: {}, optional: [], tolerance: 0, flops: () => 0 }
    const [T, D, V] = [size(s, 'T'), size(s, 'D'), size(s, 'V')]
    const [x, weight] = [argumentData(base, 'x', 'f32', T * D), argumentData(base, 'weight', 'f32', V * D)]
    return range(T).map((t) => {
      const logits = range(V).map((v) => range(D).reduce((sum, d) => sum + x[t * D + d]! * weight[v * D + d]!, 0))
      const max = Math.max(...logits)
      return max + Math.log(logits.reduce((sum, l) => sum + Math.exp(l - max), 0))
    })
  },
})

export const opCases: OpCase[] = [
  ...cases('embedForward', () => 0, [{ label: 'repeats', sizes: { T: 40, D: 12, V: 9 }, given: { ids: below('T', 'V') } }]),
  ...cases('embedBackward', product('T', 'D'), [
    { label: 'repeats', sizes: { T: 40, D: 12, V: 9 }, given: { ids: below('T', 'V') } },
    { label: 'wide', sizes: { T: 70, D: 300, V: 23 }, given: { ids: below('T', 'V') } },
  ]),
  ...cases('rmsNormForward', scaled(4, 'T', 'D'), normSizes.map((draft) => ({ ...draft, attrs: { eps: 1e-5 } }))),
  ...cases('rmsNormBackward', scaled(10, 'T', 'D'), normSizes.flatMap((draft) => [
    { ...draft, given: { rstd: positive('T') } },
    { ...draft, label: `${draft.label}, add`, given: { rstd: positive('T') }, optional: ['add'] },
  ])),
  ...cases('layerNormForward', scaled(5, 'T', 'D'), normSizes.map((draft) => ({ ...draft, attrs: { eps: 1e-5 } }))),
  ...cases('layerNormBackward', scaled(9, 'T', 'D'), normSizes.flatMap((draft) => [
    { ...draft, given: { rstd: positive('T') } },
    { ...draft, label: `${draft.label}, add`, given: { rstd: positive('T') }, optional: ['add'] },
  ])),
  ...cases('linearForward', scaled(2, 'T', 'N', 'J'), linearSizes),
  ...cases('linearBackwardInput', scaled(2, 'T', 'N', 'J'), linearSizes),
  ...cases('linearBackwardWeight', scaled(2, 'T', 'N', 'J'), withoutAdd),
  ...cases('ropeForward', scaled(3, 'T', 'H', 'C'), ropeSizes),
  ...cases('ropeBackward', scaled(3, 'T', 'H', 'C'), ropeSizes),
  ...cases('attentionForward', (s, a) => 2 * size(s, 'T') * a.sequence! * size(s, 'H') * size(s, 'C'), attentionSizes),
  ...cases('attentionBackward', (s, a) => 5 * size(s, 'T') * a.sequence! * size(s, 'H') * size(s, 'C'), attentionSizes.map((draft) => ({ ...draft, given: { lse: attentionGiven }, tolerance: 4e-6 }))),
  ...cases('kvAppendForward', () => 0, [{ label: 'one padded', sizes: { T: 4, W: 6, P: 20 }, given: { positions: () => [3, 4, -1, 11] } }]),
  ...cases('attentionCachedForward', (s) => 4 * size(s, 'T') * size(s, 'P') * size(s, 'H') * size(s, 'C'), [
    { label: 'one token', sizes: { T: 1, C: 8, P: 40 }, attrs: { H: 4, G: 2 }, given: { positions: () => [29] } },
    { label: 'prefill with padding', sizes: { T: 5, C: 6, P: 16 }, attrs: { H: 2, G: 2 }, given: { positions: () => [0, 1, 2, 15, -1] } },
    { label: 'long', sizes: { T: 2, C: 16, P: 700 }, attrs: { H: 2, G: 1 }, given: { positions: () => [513, 699] } },
  ]),
  ...cases('routerSoftmaxForward', scaled(5, 'T', 'E'), moeSizes),
  ...cases('routerTopKForward', product('T', 'E'), [
    ...moeSizes.map((draft) => ({ ...draft, given: { probs: softmaxRows } })),
    { label: 'ties go to the lower expert', sizes: { T: 3, E: 6, K: 3 }, given: { probs: (s: Sizes) => range(size(s, 'T') * 6).map((i) => [0.1, 0.2, 0.2, 0.1, 0.2, 0.2][i % 6]!) } },
  ]),
  ...cases('routerGateForward', product('T', 'K'), moeSizes.flatMap((draft) => [0, 1].map((normalise) => ({ ...draft, label: `${draft.label}, normalise ${normalise}`, attrs: { normalise }, given: gateGiven })))),
  ...cases('routerLossForward', product('T', 'E'), [{ label: 'layer 1 of 3', sizes: { T: 21, E: 4, L: 3 }, attrs: { assignments: 42, layer: 1 }, given: { probs: softmaxRows, counts: () => [10, 0, 30, 2] } }]),
  ...cases('routerBackward', scaled(6, 'T', 'E'), moeSizes.flatMap((draft) => [0, 1].map((normalise) => ({
    ...draft,
    label: `${draft.label}, normalise ${normalise}`,
    attrs: { normalise, loadBalanceScale: 0.3, routerZScale: 0.7 },
    given: { ...gateGiven, gate: positive('T K'), counts: (s: Sizes) => range(size(s, 'E')).map((e) => e * 2) },
  })))),
  ...cases('addCountsForward', () => 0, [[], ['add']].map((optional) => ({ label: optional.length > 0 ? 'add' : 'first', sizes: { E: 70 }, given: { counts: below('E', 'E'), add: below('E', 'E') }, optional }))),
  ...cases('expertChoiceForward', product('T', 'E'), choiceSizes),
  ...cases('expertChoiceBackward', scaled(6, 'T', 'E'), choiceSizes.map(({ label, sizes, given }) => ({
    label,
    sizes,
    attrs: { routerZScale: 0.7 },
    given: { ...given, tokenSlot: (s: Sizes) => range(size(s, 'T') * size(s, 'E')).map((i) => (i % 3 === 0 ? i : -1)) },
  }))),
  ...cases('moeDispatchForward', () => 0, [
    ...moeSizes.map((draft) => ({ ...draft, given: dispatchGiven })),
    { label: 'two experts take all', sizes: { T: 40, E: 8, K: 2 }, given: { experts: chosen(true) } },
    { label: 'many tokens', sizes: { T: 5000, E: 64, K: 8 }, given: dispatchGiven },
  ]),
  ...cases('groupedLinearForward', scaled(2, 'S', 'N', 'J'), grouped(['rows'])),
  ...cases('groupedLinearBackwardInput', scaled(2, 'S', 'N', 'J'), grouped(['rows'])),
  ...cases('groupedLinearBackwardWeight', scaled(2, 'S', 'N', 'J'), grouped(['rowsX', 'rowsY'])),
  ...cases('swigluForward', scaled(6, 'S', 'F'), moeSizes.map((draft) => withSlots(draft, 11))),
  ...cases('swigluBackward', scaled(12, 'S', 'F'), moeSizes.map((draft) => withSlots(draft, 35))),
  ...cases('denseSwigluForward', scaled(5, 'T', 'F'), denseSizes),
  ...cases('denseSwigluBackward', scaled(10, 'T', 'F'), denseSizes),
  ...cases('moeCombineForward', product('T', 'K', 'D'), [
    { label: 'with add', sizes: { T: 11, K: 3, D: 14, S: 33 }, given: { tokenSlot: shuffled('S') }, optional: ['add'] },
    { label: 'not every slot', sizes: { T: 5, K: 4, D: 37, S: 9 }, given: { tokenSlot: () => range(20).map((i) => (i % 2 === 0 && i < 18 ? i / 2 : -1)) }, optional: ['add'] },
    { label: 'without add', sizes: { T: 6, K: 1, D: 5, S: 6 }, given: { tokenSlot: shuffled('S') } },
  ]),
  ...cases('headCrossEntropyForward', scaled(2, 'T', 'V', 'D'), headSizes),
  ...cases('headCrossEntropyBackward', scaled(6, 'T', 'V', 'D'), headSizes.map((draft) => ({ ...draft, given: { ...draft.given, ...headLse(draft) } }))),
  ...cases('weightedSumForward', scaled(2, 'T'), [{ label: 'odd', sizes: { T: 1003 }, given: { values: positive('T'), weights: positive('T') } }]),
  ...cases('gatherRowsForward', () => 0, [{ label: 'repeats', sizes: { R: 7, T: 5, D: 9 }, given: { rows: below('R', 'T') } }]),
  ...cases('sumOfSquares', scaled(2, 'X'), [{ label: 'long', sizes: { M: 3, X: 40007 }, attrs: { index: 1 } }]),
  ...cases('clipScale', () => 0, [
    { label: 'clips', sizes: { M: 4 }, attrs: { maxNorm: 0.5 }, given: { partials: positive('M') } },
    { label: 'leaves', sizes: { M: 4 }, attrs: { maxNorm: 50 }, given: { partials: positive('M') } },
    { label: 'off', sizes: { M: 4 }, attrs: { maxNorm: 0 }, given: { partials: positive('M') } },
    { label: 'many', sizes: { M: 391 }, attrs: { maxNorm: 1 }, given: { partials: positive('M') } },
  ]),
  ...cases('adamwStep', scaled(15, 'X'), [['step 3', 0.5], ['no step after a norm that is not finite', -1]].map(([label, scale]) => ({
    label: label as string,
    sizes: { X: 1031 },
    attrs: { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1 },
    given: { v: positive('X'), scale: () => [2, scale as number], hyper: () => [1e-2, 1 - 0.9 ** 3, 1 - 0.95 ** 3] },
  }))),
]

/** Ops of the table that none of `cases` covers (must be none). */
export function uncoveredOps(cases: readonly OpCase[] = opCases): OpName[] {
  const covered = new Set(cases.map((opCase) => opCase.op))
  return (Object.keys(opTable) as OpName[]).filter((op) => !covered.has(op))
}

/** Tensor arguments of a case that are passed, with shape and dtype. */
export function caseArguments(opCase: OpCase): { name: string; writes: boolean; reads: boolean; dtype: DType; shape: number[] }[] {
  return opArguments(opCase.op)
    .filter((argument) => !argument.optional || opCase.optional.includes(argument.name))
    .map(({ name, writes, reads, dims }) => ({ name, writes, reads, ...argumentShape(dims, opCase.sizes, opCase.packed) }))
}
