/**
 * The GPU backend: recorded plans as dispatches with bind groups made once, replayed in one submit or few. Nothing is read back while a plan
 * runs, nor between plans; a device that is lost or out of memory is an AppError, after which only close() makes sense.
 * Every plan's scratch lies in one arena of the largest need, hidden tensors of its ops included, so its size is exact before it starts.
 */
import { AppError } from '#core/shared/errors.ts'
import { persistent, type Backend, type Plan, type PreparedPlan, type Tensor } from '../backend.ts'
import { planLifetimes, tensorBytes, type Lifetime } from '../planner.ts'
import { openAdapter, openDevice, type GpuAdapter } from './adapters.ts'
import type { Dispatch, Slice } from './call.ts'
import { createKernels, type Compiled, type Field, type Kernel, type Variants } from './kernels.ts'
import { lowerPlan, type Constants } from './lower.ts'
import { createDeviceMemory, placeIn, type Place, type Slabs } from './memory.ts'
import { createTimer } from './timer.ts'
import { measureBandwidth, measurePeak } from './peaks.ts'
import { chooseVariants, plainVariants } from './tune.ts'

export type WebGpuOptions = {
  /** Adapter id (adapters.ts); null or left out: the first card. */
  adapter?: string | null | undefined
  /** `mixed`: operands of forward matrix products in float16, where the adapter has it; everything else, and all sums, in float32. */
  precision?: 'float32' | 'mixed' | undefined
  /** Kernel variants, instead of those that are fastest here by a short measurement. */
  variants?: Variants | undefined
  /** Choices of earlier starts by adapter and driver, so that a resumed run computes with the same kernels. */
  remembered?: { get(key: string): Variants | undefined; set(key: string, variants: Variants): void } | undefined
  /** Bytes the backend may hold; no adapter tells how much memory it has. */
  budgetBytes?: number | undefined
  /** Less than the adapter's own limit: for tests of weights that one binding does not hold. */
  maxBindingBytes?: number | undefined
  /** Times every kernel with timestamp queries, which costs a pass per dispatch: for the benchmark. */
  profile?: boolean | undefined
}

export type WebGpuBackend = Backend & {
  readonly name: 'webgpu'
  readonly adapter: GpuAdapter
  readonly precision: 'float32' | 'mixed'
  readonly variants: Variants
  /** Bytes of device memory held now, in all buffers. */
  heldBytes(): number
  /** What has been done since the backend was made. */
  counts(): { dispatches: number; submits: number; readBytes: number }
  /** Nanoseconds by op and kernel since the backend was made; empty without `profile`. */
  profile(): Promise<Map<string, number>>
  /** Bytes per second of a copy, read and written bytes counted. */
  measureBandwidth(): Promise<number>
  /** The device itself, for tests that destroy it. */
  readonly device: GPUDevice
}

/** Dispatches of one submit: long enough to cost nothing, short enough that a slow card's watchdog never waits for more. */
const dispatchesPerSubmit = 512
/** Bytes of one dispatch's parameters: the alignment of uniform bindings. */
const paramsBytes = 256

/** What devices were made by: Dawn crashes when it is collected before them. */
const keepAlive = new Set<object>()

/** A plan's dispatches with what they are bound to. */
type Bound = { dispatches: readonly Dispatch[]; kernels: readonly Kernel[]; compiled: readonly Compiled[]; offsets: ReadonlyMap<Tensor, number>; scratchBytes: number; uniform: GPUBuffer; groups: GPUBindGroup[] | null; arena: Slabs | null }

function packParams(fields: readonly Field[], params: Readonly<Record<string, number>>, kernel: string, bytes: DataView, at: number): void {
  fields.forEach(({ name, type }, i) => {
    const value = params[name]
    if (value === undefined) throw new Error(`${kernel}: parameter ${name} is not given`)
    if (type === 'f32') bytes.setFloat32(at + 4 * i, value, true)
    else bytes.setInt32(at + 4 * i, value, true)
  })
}

function lifetimesOf(dispatches: readonly Dispatch[], kernels: readonly Kernel[], plan: string): Lifetime[] {
  const found = new Map<Tensor, Lifetime>()
  dispatches.forEach((dispatch, index) => {
    for (const { name } of kernels[index]!.bindings) {
      const tensor = dispatch.slices[name]?.tensor
      if (!tensor || tensor.place !== 'scratch') continue
      const known = found.get(tensor)
      if (known) known.last = index
      else found.set(tensor, { tensor, first: index, last: index })
    }
  })
  if (found.size === 0 && dispatches.length === 0) throw new Error(`plan ${plan} is empty`)
  return [...found.values()]
}

function requireFits(dispatch: Dispatch, kernel: Kernel, limitBytes: number): void {
  for (const { name } of kernel.bindings) {
    const slice: Slice | undefined = dispatch.slices[name]
    if (!slice || slice.byteLength <= limitBytes) continue
    throw new AppError('backend.tensorTooLarge', `${dispatch.op}: "${slice.tensor.name}" [${slice.tensor.shape.join(', ')}] has ${tensorBytes(slice.tensor)} bytes, and this GPU binds at most ${limitBytes}`, {
      params: { tensor: slice.tensor.name, sizeBytes: tensorBytes(slice.tensor), limitBytes },
      hint: 'Choose fewer sequences per micro-batch, or shorter sequences.',
    })
  }
}

/** Makes a GPU backend. Throws AppError `device.missing`, `device.notFound`, `device.noF16`. */
export async function createWebGpuBackend(options: WebGpuOptions = {}): Promise<WebGpuBackend> {
  const opened = await openAdapter(options.adapter ?? null)
  const { about } = opened
  const precision = options.precision ?? 'float32'
  if (precision === 'mixed' && !about.features.f16) {
    throw new AppError('device.noF16', `${about.name} has no float16`, { params: { adapter: about.name }, hint: 'Choose float32 precision.' })
  }
  const device = await openDevice(opened)
  keepAlive.add(opened)
  const maxBindingBytes = Math.min(options.maxBindingBytes ?? Infinity, about.limits.maxBindingBytes)

  let lostError: AppError | null = null
  let failure: Error | null = null
  const lostInfo = device.lost.then((info) => {
    lostError = new AppError('device.lost', `${about.name} was lost: ${info.message || info.reason}`, {
      params: { adapter: about.name, reason: info.message || info.reason },
      hint: 'The last checkpoint is safe. Resume on the same device once the driver is back, or go on on the CPU.',
    })
    return lostError
  })
  device.addEventListener('uncapturederror', ({ error }) => (failure ??= new Error(`${about.name}: ${error.message}`)))
  const lost = async (cause?: unknown): Promise<never> => {
    const error = await Promise.race([lostInfo, new Promise<null>((resolve) => setTimeout(() => resolve(null), 1000))])
    throw error ?? cause ?? new Error('the device did not answer')
  }
  const requireAlive = (): void => {
    if (lostError) throw lostError
    if (failure) throw failure
  }

  const memory = createDeviceMemory(device, { maxBufferBytes: about.limits.maxBufferBytes, budgetBytes: options.budgetBytes ?? Infinity, lost })
  const kernels = createKernels(device)
  const constants: Constants = new Map()
  const spare = memory.slabs(256 * 32)
  const timer = options.profile && about.features.timestamps ? createTimer(device) : null
  let arena: Slabs | null = null
  let variants: Variants = options.variants ?? plainVariants
  let [dispatched, submits] = [0, 0]

  const placeConstants = (): void => {
    const fresh = [...constants.values()].filter(({ tensor }) => !memory.has(tensor))
    if (fresh.length === 0) return
    memory.allocate(fresh.map(({ tensor }) => tensor))
    for (const { tensor, data } of fresh) memory.write(tensor, new Int32Array(data.buffer), 0)
  }

  const bindGroups = (bound: Bound): GPUBindGroup[] =>
    bound.dispatches.map((dispatch, index) => {
      const kernel = bound.kernels[index]!
      const entries: GPUBindGroupEntry[] = [{ binding: 0, resource: { buffer: bound.uniform, offset: index * paramsBytes, size: paramsBytes } }]
      for (const { name, number } of kernel.bindings) {
        const slice = dispatch.slices[name]
        // An optional tensor that was left out is bound to room of its own that nobody reads.
        if (!slice) {
          entries.push({ binding: number, resource: { buffer: spare.buffers[0]!, offset: number * 256, size: 256 } })
          continue
        }
        const place: Place = slice.tensor.place === 'scratch' ? placeIn(arena!, bound.offsets.get(slice.tensor)!) : memory.placeOf(slice.tensor)
        entries.push({ binding: number, resource: { buffer: place.buffer, offset: place.byteOffset + slice.byteOffset, size: slice.byteLength } })
      }
      return device.createBindGroup({ label: dispatch.kernel, layout: bound.compiled[index]!.layout, entries })
    })

  /** Compiles, plans and uploads; what it gives can be replayed. */
  const bind = async (name: string, dispatches: readonly Dispatch[], using: Variants): Promise<Bound> => {
    const used = dispatches.map(({ kernel, scalar }) => kernels.get(kernel, using, scalar))
    dispatches.forEach((dispatch, i) => requireFits(dispatch, used[i]!, maxBindingBytes))
    placeConstants()
    const { offsets, totalBytes } = planLifetimes(lifetimesOf(dispatches, used, name), memory.slabBytes)
    const params = new ArrayBuffer(dispatches.length * paramsBytes)
    dispatches.forEach((dispatch, i) => packParams(used[i]!.params, dispatch.params, dispatch.kernel, new DataView(params), i * paramsBytes))
    if (!arena || arena.totalBytes < totalBytes) {
      if (arena) memory.freeSlabs(arena)
      arena = memory.slabs(Math.max(256, totalBytes))
    }
    await memory.settle()
    // Compiling takes long, so it begins only when there is room for what it is for.
    const compiled = await Promise.all(used.map((kernel) => kernel.compile()))
    requireAlive()
    return { dispatches, kernels: used, compiled, offsets, scratchBytes: totalBytes, uniform: memory.uniform(params), groups: null, arena: null }
  }

  const submit = (encoder: GPUCommandEncoder): void => {
    device.queue.submit([encoder.finish()])
    submits++
  }

  const replay = (bound: Bound): void => {
    requireAlive()
    // A plan prepared later may have moved the arena.
    if (bound.groups === null || bound.arena !== arena) Object.assign(bound, { groups: bindGroups(bound), arena })
    const { dispatches, compiled, groups } = bound
    for (let from = 0; from < dispatches.length; from += dispatchesPerSubmit) {
      const encoder = device.createCommandEncoder()
      let pass = timer ? null : encoder.beginComputePass()
      const end = Math.min(from + dispatchesPerSubmit, dispatches.length)
      for (let i = from; i < end; i++) {
        const { op, kernel, groups: size } = dispatches[i]!
        if (timer) pass = encoder.beginComputePass({ timestampWrites: timer.mark(`${op}/${kernel}`) })
        pass!.setPipeline(compiled[i]!.pipeline)
        pass!.setBindGroup(0, groups![i]!)
        pass!.dispatchWorkgroups(...size)
        if (timer) pass!.end()
      }
      if (timer) timer.resolve(encoder)
      else pass!.end()
      submit(encoder)
    }
    dispatched += dispatches.length
  }

  const prepareWith = async (plan: Plan, using: Variants): Promise<PreparedPlan> => {
    requireAlive()
    const bound = await bind(plan.name, lowerPlan(plan.records, { maxBindingBytes, gemm: using.gemm, constants }), using)
    return { scratchBytes: bound.scratchBytes, run: async () => replay(bound) }
  }
  /** Runs dispatches on persistent tensors and waits: for the probes. */
  const runner = {
    allocate: (name: string, elements: number): Tensor => {
      const tensor = persistent(name, [elements])
      memory.allocate([tensor])
      return tensor
    },
    release: (tensor: Tensor): void => memory.release([tensor]),
    async time(dispatches: readonly Dispatch[]): Promise<(times: number) => Promise<number>> {
      const bound = await bind('probe', dispatches, variants)
      return async (times) => {
        const startedAt = performance.now()
        for (let i = 0; i < times; i++) replay(bound)
        await device.queue.onSubmittedWorkDone()
        requireAlive()
        return (performance.now() - startedAt) / 1000
      }
    },
  }

  const backend: WebGpuBackend = {
    name: 'webgpu',
    adapter: about,
    precision,
    device,
    get variants() {
      return variants
    },
    get description() {
      const products = variants.operand === 'f16' ? 'float16 operands forward' : 'float32'
      return `${about.name} · ${about.api} · ${about.driver} · ${products}${about.isSoftware ? ' · software' : ''}`
    },
    heldBytes: memory.heldBytes,
    counts: () => ({ dispatches: dispatched, submits, readBytes: memory.readBytes() }),
    profile: async () => (timer ? timer.totals() : new Map<string, number>()),

    allocate(tensors) {
      requireAlive()
      memory.allocate(tensors)
    },
    release: memory.release,
    async write(tensor, data, elementOffset = 0) {
      requireAlive()
      memory.write(tensor, data, elementOffset)
    },
    async read(tensor) {
      requireAlive()
      await memory.settle()
      const data = await memory.read(tensor)
      requireAlive()
      return data
    },
    snapshot(tensors) {
      requireAlive()
      const read = memory.snapshot(tensors)
      return {
        async read() {
          const data = await read()
          requireAlive()
          return data
        },
      }
    },
    prepare: (plan) => prepareWith(plan, variants),
    measurePeak: () => measurePeak(runner),
    measureBandwidth: () => measureBandwidth(runner, Math.min(maxBindingBytes, about.isSoftware ? 4 << 20 : 256 << 20)),
    async close() {
      await device.queue.onSubmittedWorkDone().catch(() => undefined)
      memory.close()
      device.destroy()
      await lostInfo
      // Dawn lives as long as something holds the object that made the device.
      keepAlive.delete(opened)
    },
  }
  if (!options.variants) variants = await chooseVariants({ backend, prepareWith, precision, matrixUnits: opened.matrixUnits, remembered: options.remembered })
  return backend
}

