/**
 * The referee: every op as plain loops in float64, one record after another. Slow, obvious, and kept for ever:
 * the fast backends and all gradients are checked against it. It plans no memory and has no threads.
 */
import { elementCount, type Backend, type OpName, type OpRecord, type Plan, type PreparedPlan, type Tensor, type TensorData } from './backend.ts'
import { planScratch } from './planner.ts'
import { exactBytes, isPacked, unpackNumbers } from './packed.ts'
import { opArguments, opAttributes, opLetters } from './record.ts'
import type { Numbers } from './reference-args.ts'
import { referenceOps } from './reference-ops.ts'

/** Arguments of a record by name (numbers for attributes, arrays for tensors), and the letters of its shapes. */
function call(record: OpRecord, data: (tensor: Tensor) => Numbers): void {
  const args: Record<string, Numbers | number | undefined> = {}
  opArguments(record.op).forEach((argument, i) => {
    const tensor = record.tensors[i]
    if (tensor) args[argument.name] = data(tensor)
  })
  opAttributes(record.op).forEach((name, i) => (args[name] = record.attrs[i]!))
  const run = referenceOps[record.op] as (args: object, letters: object) => void
  run(args, opLetters(record.op, record.tensors, record.attrs))
}

function zeros(tensor: Tensor): Numbers {
  return tensor.dtype === 'i32' ? new Int32Array(elementCount(tensor)) : new Float64Array(elementCount(tensor))
}

/** A Backend that computes in float64; `read` of an f32 tensor returns a Float64Array. */
export function createReferenceBackend(): Backend {
  const memory = new Map<Tensor, Numbers>()
  const find = (tensor: Tensor): Numbers => {
    const data = memory.get(tensor)
    if (!data) throw new Error(`reference: "${tensor.name}" is not allocated`)
    return data
  }
  return {
    name: 'reference',
    description: 'float64 loops, 1 thread',
    allocate: (tensors) => tensors.forEach((tensor) => memory.set(tensor, zeros(tensor))),
    /** Packed weights are kept as the numbers that their bytes mean. */
    load(source, places) {
      if (typeof source === 'string') throw new Error('reference: loads bytes, no files')
      for (const { tensor, byteOffset } of places) {
        const bytes = Uint8Array.from(source.subarray(byteOffset, byteOffset + exactBytes(tensor)))
        memory.set(tensor, isPacked(tensor) ? Float64Array.from(unpackNumbers(tensor.dtype, bytes, tensor.shape)) : Float64Array.from(new Float32Array(bytes.buffer)))
      }
    },
    release: (tensors) => tensors.forEach((tensor) => memory.delete(tensor)),
    async write(tensor: Tensor, data: TensorData, elementOffset = 0): Promise<void> {
      find(tensor).set(data, elementOffset)
    },
    async read(tensor: Tensor): Promise<TensorData> {
      return find(tensor).slice()
    },
    snapshot(tensors) {
      const copies = tensors.map((tensor) => find(tensor).slice())
      return { read: async () => copies }
    },
    async prepare(plan: Plan): Promise<PreparedPlan> {
      return {
        scratchBytes: planScratch(plan).totalBytes,
        async run(): Promise<void> {
          const scratch = new Map<Tensor, Numbers>()
          const data = (tensor: Tensor): Numbers => {
            if (tensor.place === 'persistent') return find(tensor)
            if (!scratch.has(tensor)) scratch.set(tensor, zeros(tensor).fill(tensor.dtype === 'i32' ? -1 : NaN))
            return scratch.get(tensor)!
          }
          for (const record of plan.records) call(record, data)
        },
      }
    },
    async measurePeak(): Promise<number> {
      throw new Error('the referee has no speed worth measuring')
    },
    async close(): Promise<void> {
      memory.clear()
    },
  }
}

/** Names of ops, in table order. */
export const referenceOpNames = Object.keys(referenceOps) as OpName[]
