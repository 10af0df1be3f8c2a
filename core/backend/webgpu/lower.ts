/**
 * From recorded ops to dispatches, by the table in lowerings.ts. It compiles nothing and holds no memory: tensors that only exist between
 * an op's kernels are named here and placed by the planner.
 *
 * A weight larger than one binding may be is split by rows (or experts, or elements) into windows, one dispatch each.
 * Activations are not: their size is the caller's choice of micro-batch, and the error says so.
 */
import { AppError } from '#core/shared/errors.ts'
import type { OpName, OpRecord, Tensor } from '../backend.ts'
import { opArguments, opAttributes, opLetters } from '../record.ts'
import { sliceOf, type Call, type Dispatch, type Lowering, type Part, type Slice } from './call.ts'
import type { Variants } from './kernels.ts'
import { lowerings } from './lowerings.ts'

/** Data of constants by tensor. */
export type Constants = Map<string, { tensor: Tensor; data: Uint32Array }>

/** tileN of the parts of native/gpu/lib. */
const tileColumns = { 'gemm-scalar': 16, 'gemm-direct': 32, 'gemm-tile': 64, 'gemm-matrix': 64 } as const

/** Lowers the records of one plan. */
export function lowerPlan(records: readonly OpRecord[], { maxBindingBytes, gemm, constants }: { maxBindingBytes: number; gemm: Variants['gemm']; constants: Constants }): Dispatch[] {
  const dispatches: Dispatch[] = []
  const derived = new Map<Tensor, Map<string, Tensor>>()
  for (const record of records) {
    const lowering = (lowerings as Partial<Record<OpName, Lowering>>)[record.op]
    if (!lowering) throw new AppError('backend.opUnsupported', `the GPU has no kernel for ${record.op} yet`, { params: { op: record.op }, hint: 'Use the CPU for models in bf16, 8 or 4 bits.' })
    const args = opArguments(record.op)
    const t: Record<string, Tensor> = {}
    args.forEach(({ name, writes }, i) => {
      const tensor = record.tensors[i]
      if (!tensor) return
      t[name] = tensor
      if (writes) derived.delete(tensor)
    })
    const n: Record<string, number> = opLetters(record.op, record.tensors, record.attrs)
    opAttributes(record.op).forEach((name, i) => (n[name] = record.attrs[i]!))
    const call: Call = {
      t,
      n,
      maxBindingBytes,
      hidden: (name, shape, dtype = 'f32') => ({ name: `${record.op}.${name}`, shape, dtype, place: 'scratch' }),
      constant(name, shape, data) {
        let known = constants.get(name)
        if (!known) constants.set(name, (known = { tensor: { name, shape, dtype: 'i32', place: 'persistent' }, data: data() }))
        return known.tensor
      },
      derived(tensor, name, make) {
        const own = derived.get(tensor) ?? new Map<string, Tensor>()
        derived.set(tensor, own)
        const found = own.get(name) ?? make()
        own.set(name, found)
        return found
      },
      slice: (name, from, count) => ({ tensor: t[name]!, from, count, rowElements: 1 }),
      tileColumns: (scalar) => tileColumns[scalar ? 'gemm-scalar' : gemm],
      dispatch(kernel, { tensors = {}, params = {}, groups, scalar = false }) {
        const given: Record<string, Part | undefined> = { ...t, ...tensors }
        const slices: Record<string, Slice> = {}
        const flags: Record<string, number> = {}
        for (const [name, part] of Object.entries(given)) if (part !== undefined) slices[name] = sliceOf(part)
        for (const { name, optional } of args) if (optional) flags[`has${name[0]!.toUpperCase()}${name.slice(1)}`] = Number(given[name] !== undefined)
        dispatches.push({ op: record.op, kernel, scalar, slices, params: { ...n, ...flags, ...params }, groups: [groups[0], groups[1] ?? 1, groups[2] ?? 1] })
      },
    }
    lowering(call)
  }
  return dispatches
}
