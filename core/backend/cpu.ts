/**
 * The CPU backend: binds recorded plans to native memory and hands each to the kernels as one asynchronous call.
 * All plans share one scratch arena of the largest need; tensors allocated together share one block of memory.
 * A second run while one is in flight is refused; reads and writes wait for the run to end.
 */
import { availableParallelism, cpus } from 'node:os'
import { loadNative, type InstructionSet, type NativeContext, type NativeMemory, type NativeRecord } from '#native/index.ts'
import { AppError } from '#core/shared/errors.ts'
import { elementCount, type Backend, type OpName, type OpRecord, type Plan, type PreparedPlan, type Tensor, type TensorData } from './backend.ts'
import { fuseHeads } from './fuse.ts'
import { exactBytes, isPacked } from './packed.ts'
import { opArguments } from './record.ts'
import { planPersistent, planScratch } from './planner.ts'

export type CpuOptions = {
  /** Threads that compute. Default: as many as this process may use. */
  threads?: number | undefined
  /** Forces a kernel set. Default: the environment variable MOE_ISA, else the best that the processor has. */
  isa?: string | undefined
  /** `mixed`: operands of matrix products and attention in bf16, sums and everything else in float32, where the processor multiplies bf16. Default float32. */
  precision?: 'float32' | 'mixed' | undefined
  /**
   * Keeps weights packed for the kernels until they change, instead of packing them in every call: worth its memory (4 bytes a parameter in
   * mixed, 8 in float32) where a step has several micro-batches, or where nothing is trained. Default false.
   */
  keepsWeights?: boolean | undefined
}

export type CpuBackend = Backend & {
  readonly name: 'cpu'
  readonly isa: InstructionSet
  readonly threads: number
  /** What products are computed in: float32 too where mixed was asked for and the processor has no bf16. */
  readonly precision: 'float32' | 'mixed'
  /** Bytes per second that all threads read from memory, measured now. */
  measureBandwidth(): Promise<number>
  /** Nanoseconds spent in each op since the backend was made; headCrossEntropy is a forward and its backward in one. */
  profile(): Partial<Record<OpName | 'headCrossEntropy', number>>
}

/** A plan that took no longer is run on the calling thread, which blocks the event loop for that long ... */
const shortRunMs = 2
/** ... and lets it go on at least this often. */
const breathEveryMs = 20

/** Where a persistent tensor lies; a group is what one allocate() call made. */
type Group = { memory: NativeMemory; tensors: ReadonlySet<Tensor> }
type Place = { group: Group; byteOffset: number }

function openContext(options: CpuOptions): NativeContext {
  const native = loadNative()
  const isa = options.isa ?? (process.env.MOE_ISA || undefined)
  const known: readonly string[] = native.instructionSets()
  if (isa !== undefined && !known.includes(isa)) {
    throw new AppError('backend.isa', `Instruction set "${isa}" is not to be had on this processor, which has: ${known.join(', ')}`, {
      params: { found: isa, expected: known.join(', ') },
      hint: 'Set MOE_ISA to one of these, or leave it out.',
    })
  }
  return native.createContext({ threads: options.threads ?? availableParallelism(), isa, mixed: options.precision === 'mixed' })
}

/** Rethrows the addon's failure to allocate as something a user can act on. */
function withMemory<T>(bytes: number, allocate: () => T): T {
  try {
    return allocate()
  } catch (cause) {
    if ((cause as { code?: string }).code !== 'ENOMEM') throw cause
    throw new AppError('backend.memory', `The system has no ${bytes} bytes of memory to give`, {
      params: { sizeBytes: bytes },
      hint: 'Close other programs, or choose a smaller model or fewer tokens per step.',
      cause,
    })
  }
}

/** `data` as the bytes of elements of `tensor`. */
function toElements(tensor: Tensor, data: TensorData): Float32Array | Int32Array {
  if (isPacked(tensor)) throw new TypeError(`write: "${tensor.name}" is packed, and only loaded`)
  if ((tensor.dtype === 'i32') !== data instanceof Int32Array) {
    throw new TypeError(`write: "${tensor.name}" is ${tensor.dtype}, the data is ${data.constructor.name}`)
  }
  return data instanceof Float64Array ? Float32Array.from(data) : data
}

/** Whether an op decides on the routing, or its gradient: the router's product stays float32, because a flipped top-k is no rounding error. */
function routerRecords(plan: Plan): ReadonlySet<OpRecord> {
  const ofRouter = new Set(plan.records.flatMap(({ op, tensors }) => (op === 'routerSoftmaxForward' ? [tensors[2]] : op === 'routerBackward' || op === 'expertChoiceBackward' ? [tensors[0]] : [])))
  return new Set(plan.records.filter(({ op, tensors }) => op.startsWith('linear') && tensors.some((tensor) => ofRouter.has(tensor))))
}

/** Scratch tensors that every op which touches them takes as bf16: most are operands, which would be rounded anyway. */
function halfTensors(plan: Plan, precise: ReadonlySet<OpRecord>, halvesOf: (op: OpName) => number): ReadonlySet<Tensor> {
  const found = new Set<Tensor>()
  const refused = new Set<Tensor>()
  for (const record of plan.records) {
    const halves = precise.has(record) ? 0 : halvesOf(record.op)
    record.tensors.forEach((tensor, i) => {
      if (tensor?.place === 'scratch') ((halves >> i) & 1 ? found : refused).add(tensor)
    })
  }
  for (const tensor of refused) found.delete(tensor)
  return found
}

type NativeOp = { op: string; attrs: readonly number[]; tensors: readonly (Tensor | null)[]; writes: number; record: OpRecord }

/** The plan's records, a fused forward and the backward after it as one op of the kernels. */
function nativeOps(plan: Plan, fused: ReadonlySet<OpRecord>): NativeOp[] {
  return plan.records.flatMap((record, i): NativeOp[] => {
    if (i > 0 && fused.has(plan.records[i - 1]!)) return []
    if (!fused.has(record)) return [{ ...record, writes: opArguments(record.op).filter((argument) => argument.writes).length, record }]
    const [loss, lse, x, weight, targets] = record.tensors
    const [dX, dWeight, , , , , dLoss] = plan.records[i + 1]!.tensors
    return [{ op: 'headCrossEntropy', attrs: [], tensors: [loss!, lse!, dX!, dWeight!, x!, weight!, targets!, dLoss!], writes: 4, record }]
  })
}

/** Makes a CPU backend. Throws AppError `native.missing`, `native.broken` or `backend.isa`. */
export function createCpuBackend(options: CpuOptions = {}): CpuBackend {
  const context = openContext(options)
  const scratch = context.allocate(0)
  const places = new Map<Tensor, Place>()
  let running: Promise<unknown> | undefined
  let breathedAt = 0

  const placeOf = (tensor: Tensor): Place => {
    const place = places.get(tensor)
    if (place === undefined) throw new Error(`"${tensor.name}" is not allocated`)
    return place
  }
  const copyOf = (tensor: Tensor, into?: TensorData): Float32Array | Int32Array => {
    const { group, byteOffset } = placeOf(tensor)
    if (isPacked(tensor)) throw new TypeError(`read: "${tensor.name}" is packed`)
    const data = into instanceof Int32Array || into instanceof Float32Array ? into : tensor.dtype === 'i32' ? new Int32Array(elementCount(tensor)) : new Float32Array(elementCount(tensor))
    if (data.length !== elementCount(tensor)) throw new RangeError(`read: ${data.length} numbers for "${tensor.name}", which has ${elementCount(tensor)}`)
    group.memory.read(byteOffset, data)
    return data
  }
  const idle = async (): Promise<void> => {
    while (running !== undefined) await running.catch(() => undefined)
  }
  /** One at a time; afterwards, and only then, memory may be touched again. */
  const exclusively = async <T>(what: string, start: () => Promise<T>): Promise<T> => {
    if (running !== undefined) throw new Error(`${what}: a run of this backend is in flight`)
    const job = start()
    running = job
    try {
      return await job
    } finally {
      running = undefined
    }
  }

  const bind = (records: readonly NativeOp[], offsets: ReadonlyMap<Tensor, number>, precise: ReadonlySet<OpRecord>, halves: ReadonlySet<Tensor>): NativeRecord[] =>
    records.map(({ op, attrs, tensors, writes, record }) => ({
      op,
      attrs,
      precise: precise.has(record),
      writes,
      keepsWeight: options.keepsWeights === true && tensors[2]?.place === 'persistent',
      tensors: tensors.map((tensor) => {
        if (tensor === null) return null
        const format = isPacked(tensor) ? tensor.dtype : undefined
        if (tensor.place === 'scratch') return { memory: scratch, byteOffset: offsets.get(tensor)!, shape: tensor.shape, half: halves.has(tensor), format }
        const { group, byteOffset } = placeOf(tensor)
        return { memory: group.memory, byteOffset, shape: tensor.shape, format }
      }),
    }))

  return {
    name: 'cpu',
    isa: context.isa,
    threads: context.threads,
    precision: context.precision,
    description: `${cpus()[0]?.model ?? 'CPU'} · ${context.isa} · ${context.threads} threads · ${context.precision}`,

    allocate(tensors) {
      const layout = planPersistent(tensors)
      const taken = tensors.find((tensor) => places.has(tensor) || tensor.place !== 'persistent')
      if (taken !== undefined) throw new Error(`allocate: "${taken.name}" is ${taken.place === 'scratch' ? 'scratch' : 'allocated already'}`)
      const memory = withMemory(layout.totalBytes, () => context.allocate(layout.totalBytes))
      const group = { memory, tensors: new Set(tensors) }
      for (const [tensor, byteOffset] of layout.offsets) places.set(tensor, { group, byteOffset })
    },

    load(source, list) {
      const taken = list.find(({ tensor }) => places.has(tensor))
      if (taken !== undefined) throw new Error(`load: "${taken.tensor.name}" is allocated already`)
      const memory = typeof source === 'string' ? context.map(source) : withMemory(source.byteLength, () => context.allocate(source.byteLength))
      const beyond = list.find(({ tensor, byteOffset }) => byteOffset % 64 !== 0 || byteOffset + exactBytes(tensor) > memory.byteLength)
      if (beyond !== undefined) {
        const { byteLength } = memory
        memory.free()
        throw new RangeError(`load: "${beyond.tensor.name}" at byte ${beyond.byteOffset} of ${byteLength}`)
      }
      if (typeof source !== 'string') memory.write(0, source)
      const group = { memory, tensors: new Set(list.map(({ tensor }) => tensor)) }
      for (const { tensor, byteOffset } of list) places.set(tensor, { group, byteOffset })
    },

    release(tensors) {
      if (tensors.length === 0) return
      const { group } = placeOf(tensors[0]!)
      if (group.tensors.size !== tensors.length || !tensors.every((tensor) => group.tensors.has(tensor))) {
        throw new Error(`release: "${tensors[0]!.name}" was allocated with ${group.tensors.size} tensors, all of which must be released together`)
      }
      group.memory.free()
      for (const tensor of tensors) places.delete(tensor)
    },

    async write(tensor, data, elementOffset = 0) {
      const elements = toElements(tensor, data)
      if (elementOffset < 0 || elementOffset + data.length > elementCount(tensor)) {
        throw new RangeError(`write: elements ${elementOffset} to ${elementOffset + data.length} of "${tensor.name}", which has ${elementCount(tensor)}`)
      }
      await idle()
      const { group, byteOffset } = placeOf(tensor)
      group.memory.write(byteOffset + elementOffset * 4, elements)
    },

    async read(tensor, into) {
      await idle()
      return copyOf(tensor, into)
    },

    snapshot(tensors) {
      const copies = tensors.map((tensor) => copyOf(tensor))
      return { read: async () => copies }
    },

    async prepare(recorded): Promise<PreparedPlan> {
      await idle()
      const { plan, fused } = fuseHeads(recorded)
      const precise = routerRecords(plan)
      const halves = halfTensors(plan, precise, (op) => context.halves(op))
      const { offsets, totalBytes } = planScratch(plan, halves)
      if (totalBytes > scratch.byteLength) withMemory(totalBytes, () => scratch.resize(totalBytes))
      const prepared = withMemory(totalBytes, () => context.prepare(bind(nativeOps(plan, fused), offsets, precise, halves)))
      // A step of decoding a small model takes less than two changes of thread cost: what was short is run where it is asked for.
      let lastMs = Infinity
      const run = async (): Promise<void> => {
        const startedAt = performance.now()
        const isShort = lastMs <= shortRunMs
        if (isShort) prepared.runNow()
        else await prepared.run()
        const endedAt = performance.now()
        lastMs = endedAt - startedAt
        if (isShort && endedAt - breathedAt < breathEveryMs) return
        if (isShort) await new Promise((resolve) => setImmediate(resolve))
        breathedAt = performance.now()
      }
      return { scratchBytes: totalBytes, run: () => exclusively(`run of ${plan.name}`, run) }
    },

    populate() {
      for (const memory of new Set([...places.values()].map(({ group }) => group.memory))) memory.populate()
      scratch.populate()
      context.populate()
    },

    kernelBytes: () => context.byteLength,
    measurePeak: () => exclusively('measurePeak', () => context.measurePeak()),
    measureBandwidth: () => exclusively('measureBandwidth', () => context.measureBandwidth()),
    profile: () => context.profile(),

    async close() {
      await idle()
      for (const { group } of places.values()) group.memory.free()
      places.clear()
      scratch.free()
      context.close()
    },
  }
}
