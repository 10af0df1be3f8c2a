/**
 * The Backend seam: opaque tensors, the table of paired ops, and what a backend must do with a recorded plan.
 *
 * Laws, for every backend:
 *  - Row-major, float32 (`f32`) or int32 (`i32`). Shapes are asserted here, when an op is recorded, and nowhere deeper.
 *  - Weights for inference may be packed (packed.ts): read-only, in bf16, 8 or 4 bits; only the `packed` arguments of ops take them.
 *  - `out` is overwritten whole; `inout` is read and written (parameter gradients accumulate, caches, optimizer state).
 *    An activation gradient that must be summed takes the other summand as its optional input `add`.
 *  - Inputs never alias outputs. Sums run in a fixed order: the same bits whatever the thread count.
 *  - Scratch tensors live from their first write to their last use inside one plan; persistent ones until released.
 *  - Nothing in a plan depends on the routing: T tokens always fill S = T·K slots (dropless), experts own ragged ranges.
 *
 * Letters: T tokens, D model width, N/J out/in width, H heads, G key-value heads, C head width, E experts, K experts per
 * token, S = T·K slots, F expert width, V vocabulary, P cache positions.
 * An op is one row of `opTable`; its name is the method, the C++ function, the WGSL file, the test case and the bench row.
 */

/** Forms of a weight that is only read: packed.ts says how its bytes lie. */
export type PackedDType = 'bf16' | 'q8' | 'q4'
export type DType = 'f32' | 'i32' | PackedDType
export type Shape = readonly number[]

/** A tensor is a name, a shape and an identity; only a backend knows where its numbers are. */
export type Tensor = {
  readonly name: string
  readonly shape: Shape
  readonly dtype: DType
  readonly place: 'persistent' | 'scratch'
}

export type TensorData = Float32Array | Float64Array | Int32Array

/** One op's arguments: tensor name -> "dtype? dims", dtype `i32` or `packed` (any PackedDType), else f32. A dim is a letter, a number, a product `A*B`, or `A+1`; `*` alone is any shape. */
type OpSpec = {
  readonly out?: Readonly<Record<string, string>>
  readonly inout?: Readonly<Record<string, string>>
  readonly in?: Readonly<Record<string, string>>
  readonly optional?: Readonly<Record<string, string>>
  /** Numbers fixed when the plan is recorded. One whose name is a letter binds that letter in the dims. */
  readonly attrs?: readonly string[]
}

export const opTable = {
  /** x[t] = weight[ids[t]]. */
  embedForward: { out: { x: 'T D' }, in: { ids: 'i32 T', weight: 'V D' } },
  /** dWeight[ids[t]] += dX[t], in token order. */
  embedBackward: { inout: { dWeight: 'V D' }, in: { ids: 'i32 T', dX: 'T D' } },

  /** y = weight · x · rstd, rstd = (mean(x²) + eps)^-½ (RMSNorm, arXiv 1910.07467). */
  rmsNormForward: { out: { y: 'T D', rstd: 'T' }, in: { x: 'T D', weight: 'D' }, attrs: ['eps'] },
  /** dX = add + rstd·(dY·w − x·rstd²·mean(dY·w·x)); dWeight += Σ_t dY·x·rstd. */
  rmsNormBackward: {
    out: { dX: 'T D' },
    inout: { dWeight: 'D' },
    in: { dY: 'T D', x: 'T D', weight: 'D', rstd: 'T' },
    optional: { add: 'T D' },
  },

  /** y = (x − mean(x))·rstd, rstd = (var(x) + eps)^-½ (LayerNorm without weights, arXiv 1607.06450). */
  layerNormForward: { out: { y: 'T D', rstd: 'T' }, in: { x: 'T D' }, attrs: ['eps'] },
  /** dX = add + rstd·(dY − mean(dY) − n·mean(dY·n)), n = (x − mean(x))·rstd. */
  layerNormBackward: { out: { dX: 'T D' }, in: { dY: 'T D', x: 'T D', rstd: 'T' }, optional: { add: 'T D' } },

  /** y = x·weightᵀ + add. */
  linearForward: { out: { y: 'T N' }, in: { x: 'T J', weight: 'N J' }, optional: { add: 'T N' } },
  /** dX = dY·weight + add. */
  linearBackwardInput: { out: { dX: 'T J' }, in: { dY: 'T N', weight: 'N J' }, optional: { add: 'T J' } },
  /** dWeight += dYᵀ·x. */
  linearBackwardWeight: { inout: { dWeight: 'N J' }, in: { dY: 'T N', x: 'T J' } },

  /** Rotates pairs (i, i + C/2) of every head by positions[t]·theta^(−2i/C) (RoPE, rotate-half form). */
  ropeForward: { out: { y: 'T H*C' }, in: { x: 'T H*C', positions: 'i32 T' }, attrs: ['H', 'theta'] },
  /** The inverse rotation. */
  ropeBackward: { out: { dX: 'T H*C' }, in: { dY: 'T H*C', positions: 'i32 T' }, attrs: ['H', 'theta'] },

  /** Causal softmax(q·kᵀ/√C)·v inside consecutive sequences of `sequence` tokens; query head h reads key-value head ⌊h·G/H⌋. lse is the log of the softmax's denominator. */
  attentionForward: {
    out: { o: 'T H*C', lse: 'T H' },
    in: { q: 'T H*C', k: 'T G*C', v: 'T G*C' },
    attrs: ['H', 'G', 'sequence'],
  },
  /** Gradients of attentionForward; probabilities are recomputed from lse, no T×T matrix is kept. */
  attentionBackward: {
    out: { dQ: 'T H*C', dK: 'T G*C', dV: 'T G*C' },
    in: { dO: 'T H*C', q: 'T H*C', k: 'T G*C', v: 'T G*C', o: 'T H*C', lse: 'T H' },
    attrs: ['H', 'G', 'sequence'],
  },

  /** Writes k[t], v[t] into cache row positions[t]. A negative position writes nothing. */
  kvAppendForward: { inout: { cacheK: 'P W', cacheV: 'P W' }, in: { k: 'T W', v: 'T W', positions: 'i32 T' } },
  /** attentionForward of one sequence against its cache: query t sees cache rows 0..positions[t]. A negative position gives 0. */
  attentionCachedForward: {
    out: { o: 'T H*C' },
    in: { q: 'T H*C', cacheK: 'P G*C', cacheV: 'P G*C', positions: 'i32 T' },
    attrs: ['H', 'G'],
  },

  /** attentionCachedForward of tokens of several sequences: sequence i owns cache rows i·capacity and on, query t sees those of its own sequence up to rows[t]. */
  attentionSequencesForward: {
    out: { o: 'T H*C' },
    in: { q: 'T H*C', cacheK: 'P G*C', cacheV: 'P G*C', rows: 'i32 T' },
    attrs: ['H', 'G', 'capacity'],
  },

  /** probs = softmax(logits) over all experts, lse = logsumexp(logits). */
  routerSoftmaxForward: { out: { probs: 'T E', lse: 'T' }, in: { logits: 'T E' } },
  /** experts[t] = the K most probable, most probable first; ties go to the lower expert. */
  routerTopKForward: { out: { experts: 'i32 T K' }, in: { probs: 'T E' } },
  /** gate[t,j] = probs[t, experts[t,j]], divided by its sum over j when `normalise` is 1 (norm_topk_prob). */
  routerGateForward: { out: { gate: 'T K' }, in: { probs: 'T E', experts: 'i32 T K' }, attrs: ['normalise'] },
  /** losses[layer] = (E·Σ f_i·P_i, mean lse²): load balance and router z of one layer, unscaled (reference §1.6, §1.7); f = counts/assignments. */
  routerLossForward: {
    inout: { losses: 'L 2' },
    in: { probs: 'T E', lse: 'T', counts: 'i32 E' },
    attrs: ['assignments', 'layer'],
  },
  /** dLogits from dGate, plus loadBalanceScale·∂LB + routerZScale·∂z of this layer. counts is a constant of the derivative. */
  routerBackward: {
    out: { dLogits: 'T E' },
    in: { dGate: 'T K', probs: 'T E', lse: 'T', experts: 'i32 T K', gate: 'T K', counts: 'i32 E' },
    attrs: ['normalise', 'loadBalanceScale', 'routerZScale'],
  },

  /** total = counts + add: the load of several layers that share their experts. */
  addCountsForward: { out: { total: 'i32 E' }, in: { counts: 'i32 E' }, optional: { add: 'i32 E' } },
  /**
   * Expert choice (arXiv 2202.09368): of every `sequence` tokens each expert takes the `capacity` most probable, of equals the earlier. Slots as
   * moeDispatchForward makes them, tokens ascending; an assignment's index is t·E + e, and tokenSlot is −1 where e has not taken t.
   */
  expertChoiceForward: {
    out: { counts: 'i32 E', offsets: 'i32 E+1', slotToken: 'i32 S', slotIndex: 'i32 S', tokenSlot: 'i32 T E' },
    in: { probs: 'T E' },
    attrs: ['sequence', 'capacity'],
  },
  /** dLogits from dGate where an expert has taken the token, plus routerZScale·∂z. Load is balanced by construction. */
  expertChoiceBackward: {
    out: { dLogits: 'T E' },
    in: { dGate: 'T E', probs: 'T E', lse: 'T', tokenSlot: 'i32 T E' },
    attrs: ['routerZScale'],
  },

  /** Sorts the S = T·K assignments by expert, stable in token order: counts, offsets (prefix sums), slotToken (slot -> token), slotIndex (slot -> t·K + j), tokenSlot (its inverse). */
  moeDispatchForward: {
    out: { counts: 'i32 E', offsets: 'i32 E+1', slotToken: 'i32 T*K', slotIndex: 'i32 T*K', tokenSlot: 'i32 T K' },
    in: { experts: 'i32 T K' },
  },
  /** y[s] = weight[e]·x[rows[s]] for the slots s of every expert e; without `rows`, x[s]. */
  groupedLinearForward: {
    out: { y: 'S N' },
    in: { x: 'R J', weight: 'E N J', offsets: 'i32 E+1' },
    optional: { rows: 'i32 S' },
  },
  /** dX[s] = weight[e]ᵀ·dY[rows[s]]; without `rows`, dY[s]. */
  groupedLinearBackwardInput: {
    out: { dX: 'S J' },
    in: { dY: 'R N', weight: 'E N J', offsets: 'i32 E+1' },
    optional: { rows: 'i32 S' },
  },
  /** dWeight[e] += Σ_s dY[rowsY[s]]ᵀ·x[rowsX[s]] over the slots of e; without rows, row s itself. */
  groupedLinearBackwardWeight: {
    inout: { dWeight: 'E N J' },
    in: { dY: 'Y N', x: 'X J', offsets: 'i32 E+1' },
    optional: { rowsY: 'i32 S', rowsX: 'i32 S' },
  },
  /** a = gate·silu(h[:F])·h[F:], gate of the slot: scaling here instead of after the down projection leaves nothing of width D to keep (arXiv 2512.14080). */
  swigluForward: { out: { a: 'S F' }, in: { h: 'S 2*F', gate: 'T K', slotIndex: 'i32 S' } },
  /** Gradients of swigluForward; dGate = Σ_F dA·silu(h[:F])·h[F:], undefined for a gate that no slot reads. */
  swigluBackward: {
    out: { dH: 'S 2*F', dGate: 'T K' },
    in: { dA: 'S F', h: 'S 2*F', gate: 'T K', slotIndex: 'i32 S' },
  },
  /** a = silu(h[:F])·h[F:]: the experts that every token reaches, and dense layers. */
  denseSwigluForward: { out: { a: 'T F' }, in: { h: 'T 2*F' } },
  denseSwigluBackward: { out: { dH: 'T 2*F' }, in: { dA: 'T F', h: 'T 2*F' } },
  /** y[t] = add[t] + Σ_j slots[tokenSlot[t,j]], j ascending; a negative slot adds nothing. */
  moeCombineForward: { out: { y: 'T D' }, in: { slots: 'S D', tokenSlot: 'i32 T K' }, optional: { add: 'T D' } },

  /** loss[t] = lse − logit of targets[t], logits = x·weightᵀ never stored whole; a negative target gives loss 0. */
  headCrossEntropyForward: { out: { loss: 'T', lse: 'T' }, in: { x: 'T D', weight: 'V D', targets: 'i32 T' } },
  /** Gradients of Σ_t dLoss[t]·loss[t]; logits are recomputed in blocks. */
  headCrossEntropyBackward: {
    out: { dX: 'T D' },
    inout: { dWeight: 'V D' },
    in: { x: 'T D', weight: 'V D', targets: 'i32 T', lse: 'T', dLoss: 'T' },
  },
  /** embedForward of a packed weight. */
  embedPackedForward: { out: { x: 'T D' }, in: { ids: 'i32 T', weight: 'packed V D' } },
  /** linearForward of a packed weight. Where it is quantised, x may be rounded to 8 bits in blocks of 32. */
  linearPackedForward: { out: { y: 'T N' }, in: { x: 'T J', weight: 'packed N J' }, optional: { add: 'T N' } },
  /**
   * routerSoftmaxForward, routerTopKForward and routerGateForward of x·weightᵀ in one: the experts of every token, most probable first,
   * and their gates. A token's result does not depend on how many there are.
   */
  routerForward: { out: { experts: 'i32 T K', gate: 'T K' }, in: { x: 'T D', weight: 'E D' }, attrs: ['normalise'] },
  /** y[t] = add[t] + Σ_j gate[t,j]·down[e]·(silu(gateWeight[e]·x[t])·(upWeight[e]·x[t])), e = experts[t,j]: a whole MoE layer behind its router, rounding as linearPackedForward. */
  moePackedForward: {
    out: { y: 'T D' },
    in: { x: 'T D', experts: 'i32 T K', gate: 'T K', gateWeight: 'packed E F D', upWeight: 'packed E F D', downWeight: 'packed E D F' },
    optional: { add: 'T D' },
  },

  /** sum[0] = Σ values·weights. */
  weightedSumForward: { out: { sum: '1' }, in: { values: 'T', weights: 'T' } },
  /** y[r] = x[rows[r]]. */
  gatherRowsForward: { out: { y: 'R D' }, in: { x: 'T D', rows: 'i32 R' } },

  /** partials[index] = Σ x². */
  sumOfSquares: { inout: { partials: 'M' }, in: { x: '*' }, attrs: ['index'] },
  /** scale = (norm, min(1, maxNorm/(norm + 1e-6))), norm = √Σ partials. maxNorm 0 means no clipping. A norm that is not finite gives (norm, −1). */
  clipScale: { out: { scale: '2' }, in: { partials: 'M' }, attrs: ['maxNorm'] },
  /** Decoupled AdamW (arXiv 1711.05101) on grad·scale[1]; hyper = (learning rate, 1 − beta1^t, 1 − beta2^t). Leaves grad zero. A negative scale[1] leaves everything as it is. */
  adamwStep: {
    inout: { param: '*', m: '*', v: '*', grad: '*' },
    in: { scale: '2', hyper: '3' },
    attrs: ['beta1', 'beta2', 'eps', 'weightDecay'],
  },
} as const satisfies Record<string, OpSpec>

export type OpName = keyof typeof opTable

/** Ops that a backend may lack: it then refuses the plan with AppError `backend.opUnsupported`. */
export const inferenceOps = ['attentionSequencesForward', 'embedPackedForward', 'linearPackedForward', 'moePackedForward', 'routerForward'] as const satisfies readonly OpName[]
export type InferenceOp = (typeof inferenceOps)[number]
type TensorArgs<S, Key extends keyof OpSpec> = S extends { readonly [P in Key]: infer R } ? { readonly [P in keyof R]: Tensor } : unknown
type OptionalArgs<S> = S extends { readonly optional: infer R } ? { readonly [P in keyof R]?: Tensor | undefined } : unknown
type AttrArgs<S> = S extends { readonly attrs: readonly (infer A extends string)[] } ? { readonly [P in A]: number } : unknown
export type OpArgs<N extends OpName> = TensorArgs<(typeof opTable)[N], 'out'> &
  TensorArgs<(typeof opTable)[N], 'inout'> &
  TensorArgs<(typeof opTable)[N], 'in'> &
  OptionalArgs<(typeof opTable)[N]> &
  AttrArgs<(typeof opTable)[N]>

/** What model code sees: every op as a method, and scratch tensors. */
export type Recording = { readonly [N in OpName]: (args: OpArgs<N>) => void } & {
  /** A new scratch tensor of this plan. */
  scratch(name: string, shape: Shape, dtype?: DType): Tensor
}

/** One recorded op: tensors in the order out, inout, in, optional of its row (null = left out), attrs in theirs. */
export type OpRecord = { readonly op: OpName; readonly tensors: readonly (Tensor | null)[]; readonly attrs: readonly number[] }

/** A recorded pass: static shapes, replayable any number of times. */
export type Plan = { readonly name: string; readonly records: readonly OpRecord[] }

/** A plan bound to a backend's memory. */
export type PreparedPlan = {
  /** Bytes of scratch this plan needs; plans of one backend share one scratch arena of the largest need. */
  readonly scratchBytes: number
  /** Runs every op of the plan in order. One run of a backend at a time. A device of its own may still compute when it resolves: reads wait for it. */
  run(): Promise<void>
}

/** Numbers that are on their way from the device. */
export type Pending<T> = { read(): Promise<T> }

export type Backend = {
  readonly name: 'reference' | 'cpu' | 'webgpu'
  /** For people: instruction set or adapter, threads, precision. */
  readonly description: string
  /** Gives persistent tensors zero-filled memory. */
  allocate(tensors: readonly Tensor[]): void
  /**
   * Gives tensors that are only read, packed ones among them, their bytes: those of a file, which are mapped and not copied and come
   * from the disk as they are used, or a copy of `source`. Offsets are multiples of 64. Left out where a backend has no packed weights.
   */
  load?(source: string | Uint8Array, places: readonly { tensor: Tensor; byteOffset: number }[]): void
  /** Frees all memory of `tensors`, which must have been allocated (or loaded) together. */
  release(tensors: readonly Tensor[]): void
  /** Copies `data` into a persistent tensor, whole or from `elementOffset` on. */
  write(tensor: Tensor, data: TensorData, elementOffset?: number): Promise<void>
  /** A copy of a persistent tensor's numbers. A backend may fill and return `into`, which has its type and length, instead of new memory. */
  read(tensor: Tensor, into?: TensorData): Promise<TensorData>
  /**
   * Copies of small persistent tensors as all that was run before leaves them, whatever runs later. Nothing waits for the device until
   * one of them is read, and that brings all of them in one transfer.
   */
  snapshot(tensors: readonly Tensor[]): Pending<TensorData[]>
  /** Plans the memory and binds the plan. All persistent tensors in it must be allocated. */
  prepare(plan: Plan): Promise<PreparedPlan>
  /**
   * Begins to bring in, in the background, the memory of all that is allocated and prepared: for whoever is about to use all of it, and
   * has something else to do first. Left out where memory is not given page by page.
   */
  populate?(): void
  /** Bytes that the kernels hold besides tensors, for the plans prepared so far. */
  kernelBytes?(): number
  /** Multiply-add peak in FLOP/s (2 per multiply-add), measured now with all of the backend's threads. */
  measurePeak(): Promise<number>
  close(): Promise<void>
}

/** A persistent tensor; a backend must `allocate` it before a plan that names it is prepared. */
export function persistent(name: string, shape: Shape, dtype: DType = 'f32'): Tensor {
  return { name, shape, dtype, place: 'persistent' }
}

/** Number of elements of a shape or tensor. */
export function elementCount(of: Shape | Tensor): number {
  const shape = 'shape' in of ? of.shape : of
  return shape.reduce((product, size) => product * size, 1)
}
