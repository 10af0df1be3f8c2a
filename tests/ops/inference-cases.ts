/**
 * The cases of the ops for inference (inferenceOps), which not every backend has: those on packed weights, in every form, and
 * attention over the caches of several sequences.
 *
 * Quantised weights meet activations rounded to 8 bits, so against the referee, which knows the weights' exact numbers, they get a
 * wide tolerance; where x is whole numbers with a largest one of 127 in every block, the rounding does nothing and the narrow one holds.
 */
import type { PackedDType } from '#core/backend/backend.ts'
import { createRandom, permutation } from '#core/shared/random.ts'
import { dimSize, type OpCase, type Sizes } from './cases.ts'

type Draft = Pick<OpCase, 'op' | 'label' | 'sizes'> & Partial<OpCase>
const complete = (draft: Draft): OpCase => ({ attrs: {}, given: {}, optional: [], tolerance: 2e-6, flops: () => 0, ...draft, sizes: { ...draft.sizes, ...draft.attrs } })

const forms: PackedDType[] = ['bf16', 'q8', 'q4']
const exact = 3e-6
const rounded = (form: PackedDType): number => (form === 'bf16' ? exact : 2e-2)

/** Whole numbers from −127 to 127, and 127 in every block of 32. */
const whole = ({ T, J }: Sizes): Float64Array => {
  const random = createRandom(31, 'whole')
  return Float64Array.from({ length: T! * J! }, (_, i) => (i % 32 === 5 ? 127 : random.nextBelow(255) - 127))
}
const distinct = ({ T, E, K }: Sizes): number[] => {
  const random = createRandom(37, 'experts')
  return Array.from({ length: T! }, () => [...permutation(E!, random).slice(0, K)]).flat()
}
/** Everything goes to the lowest experts, in an order that is not theirs. */
const crowded = ({ T, K }: Sizes): number[] => Array.from({ length: T! * K! }, (_, i) => K! - 1 - (i % K!))
const gates = (s: Sizes): number[] => Array.from({ length: dimSize('T*K', s) }, (_, i) => 0.1 + ((i * 7) % 10) / 10)
const idsOf = ({ T, V }: Sizes): number[] => Array.from({ length: T! }, (_, t) => (t * 11) % V!)

const linearFlops = (s: Sizes): number => 2 * dimSize('T*N*J', s)
const moeFlops = (s: Sizes): number => 6 * dimSize('T*K*F*D', s)

const linear = forms.flatMap((packed): Draft[] => {
  const of = { op: 'linearPackedForward', packed, flops: linearFlops } as const
  const odd = packed === 'bf16' ? 65 : 96
  return [
    { ...of, label: `${packed}, one token`, sizes: { T: 1, N: 48, J: 64 }, given: { x: whole }, tolerance: exact },
    { ...of, label: `${packed}, rows that fill no strip`, sizes: { T: 3, N: 37, J: odd }, given: packed === 'bf16' ? {} : { x: whole }, optional: ['add'], tolerance: exact },
    { ...of, label: `${packed}, many tokens`, sizes: { T: 150, N: 70, J: 96 }, given: { x: whole }, optional: ['add'], tolerance: exact },
    { ...of, label: `${packed}, rounded`, sizes: { T: 21, N: 40, J: 256 }, tolerance: rounded(packed) },
  ]
})

const moe = forms.flatMap((packed): Draft[] => {
  const of = { op: 'moePackedForward', packed, flops: moeFlops, tolerance: rounded(packed) } as const
  const given = { experts: distinct, gate: gates }
  return [
    { ...of, label: `${packed}, one token`, sizes: { T: 1, D: 64, E: 6, F: 96, K: 3 }, given, optional: ['add'] },
    { ...of, label: `${packed}, a few tokens, rows that fill no strip`, sizes: { T: 5, D: packed === 'bf16' ? 41 : 96, E: 4, F: packed === 'bf16' ? 39 : 32, K: 2 }, given },
    { ...of, label: `${packed}, many tokens`, sizes: { T: 70, D: 64, E: 5, F: 64, K: 2 }, given, optional: ['add'] },
    { ...of, label: `${packed}, two experts take all`, sizes: { T: 40, D: 32, E: 8, F: 64, K: 2 }, given: { experts: crowded, gate: gates } },
  ]
})

const embed = forms.map((packed): Draft => ({ op: 'embedPackedForward', packed, label: packed, sizes: { T: 9, D: 64, V: 21 }, given: { ids: idsOf } }))

const attentionFlops = (s: Sizes): number => 4 * dimSize('T*P*H*C', s)
const sequences: Draft[] = [
  { op: 'attentionSequencesForward', label: 'three sequences', sizes: { T: 3, C: 8, P: 120 }, attrs: { H: 4, G: 2, capacity: 40 }, given: { rows: () => [29, 40, 117] }, flops: attentionFlops },
  { op: 'attentionSequencesForward', label: 'many tokens of several', sizes: { T: 20, C: 6, P: 600 }, attrs: { H: 2, G: 2, capacity: 150 }, given: { rows: ({ T }) => Array.from({ length: T! }, (_, t) => (t * 31) % 600) }, flops: attentionFlops },
  { op: 'attentionSequencesForward', label: 'a prompt of the second', sizes: { T: 12, C: 16, P: 60 }, attrs: { H: 2, G: 1, capacity: 30 }, given: { rows: ({ T }) => Array.from({ length: T! }, (_, t) => 31 + t) }, flops: attentionFlops },
]

const router: Draft[] = [
  { op: 'routerForward', label: 'one token', sizes: { T: 1, D: 96, E: 64, K: 8 }, attrs: { normalise: 0 }, flops: ({ T, D, E }) => 2 * T! * D! * E! },
  { op: 'routerForward', label: 'many tokens, odd sizes, normalised', sizes: { T: 45, D: 37, E: 19, K: 3 }, attrs: { normalise: 1 }, flops: ({ T, D, E }) => 2 * T! * D! * E! },
]

export const inferenceCases: OpCase[] = [...sequences, ...router, ...embed, ...linear, ...moe].map(complete)
