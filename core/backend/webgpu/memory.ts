/**
 * Memory of one GPU device: groups of persistent tensors, one scratch arena, and the ways in and out. A group or an arena lies in slabs,
 * each one buffer no larger than the device allows; no tensor crosses a slab. Running out of memory, and losing the device, are errors
 * that users can meet: both are AppErrors with what to do.
 */
import { AppError } from '#core/shared/errors.ts'
import { elementCount, type Tensor, type TensorData } from '../backend.ts'
import { alignmentBytes, planPersistent } from '../planner.ts'

// GPUBufferUsage and GPUMapMode, whose globals exist only once Dawn is loaded.
const usage = { mapRead: 1, copySource: 4, copyTarget: 8, uniform: 64, storage: 128 } as const
const mapRead = 1

export type Place = { readonly buffer: GPUBuffer; readonly byteOffset: number }
export type Slabs = { readonly buffers: readonly GPUBuffer[]; readonly slabBytes: number; readonly totalBytes: number }

/** Largest piece that goes to or from the device at once. */
const transferBytes = 64 << 20
/** Room for the snapshots of one reporting interval. */
const stagingBytes = 1 << 20

export type DeviceMemory = {
  readonly slabBytes: number
  /** Bytes of all buffers that exist now. */
  heldBytes(): number
  /** Bytes that came back from the device so far. */
  readBytes(): number
  allocate(tensors: readonly Tensor[]): void
  release(tensors: readonly Tensor[]): void
  has(tensor: Tensor): boolean
  placeOf(tensor: Tensor): Place
  slabs(totalBytes: number): Slabs
  freeSlabs(slabs: Slabs): void
  uniform(bytes: ArrayBuffer): GPUBuffer
  write(tensor: Tensor, data: TensorData, elementOffset: number): void
  read(tensor: Tensor): Promise<TensorData>
  snapshot(tensors: readonly Tensor[]): () => Promise<TensorData[]>
  /** Resolves when every allocation so far is known to have worked. Throws `backend.memory`, `device.lost`. */
  settle(): Promise<void>
  close(): void
}

/** Where `offset` of an arena lies. */
export function placeIn(slabs: Slabs, offset: number): Place {
  return { buffer: slabs.buffers[Math.floor(offset / slabs.slabBytes)]!, byteOffset: offset % slabs.slabBytes }
}

function outOfMemory(sizeBytes: number, detail: string): AppError {
  return new AppError('backend.memory', `The GPU has no ${sizeBytes} bytes of memory to give${detail ? `: ${detail}` : ''}`, {
    params: { sizeBytes },
    hint: 'Close other programs that use the GPU, choose fewer sequences per micro-batch or a smaller model, or use the CPU.',
  })
}

const asBytes = (data: TensorData): Float32Array | Int32Array => (data instanceof Float64Array ? Float32Array.from(data) : data)
const fromBytes = (tensor: Tensor, bytes: ArrayBuffer): TensorData => (tensor.dtype === 'i32' ? new Int32Array(bytes) : new Float32Array(bytes))

/** `budgetBytes` is what the backend may hold in all: the user's choice, because no adapter tells how much it has. `lost` is thrown by whatever waits. */
export function createDeviceMemory(device: GPUDevice, { maxBufferBytes, budgetBytes, lost }: { maxBufferBytes: number; budgetBytes: number; lost: () => Promise<never> }): DeviceMemory {
  const slabBytes = Math.floor(maxBufferBytes / alignmentBytes) * alignmentBytes
  const places = new Map<Tensor, Place>()
  const groups = new Map<Tensor, { slabs: Slabs; tensors: readonly Tensor[] }>()
  let checks: Promise<void>[] = []
  let [held, readBack] = [0, 0]

  const makeBuffer = (size: number, flags: number): GPUBuffer => {
    if (held + size > budgetBytes) throw outOfMemory(size, `${budgetBytes - held} bytes are left of the ${budgetBytes} it may use`)
    device.pushErrorScope('out-of-memory')
    const buffer = device.createBuffer({ size, usage: flags })
    checks.push(device.popErrorScope().then((error) => {
      if (error) throw outOfMemory(size, error.message)
    }))
    // Whoever waits first gets the error; until then nobody shall call it unhandled.
    checks.at(-1)!.catch(() => undefined)
    held += size
    return buffer
  }
  const destroy = (buffer: GPUBuffer): void => {
    held -= buffer.size
    buffer.destroy()
  }
  const slabs = (totalBytes: number): Slabs => {
    const buffers: GPUBuffer[] = []
    for (let from = 0; from < totalBytes; from += slabBytes) buffers.push(makeBuffer(Math.min(slabBytes, totalBytes - from), usage.storage | usage.copySource | usage.copyTarget))
    return { buffers, slabBytes, totalBytes }
  }
  const placeOf = (tensor: Tensor): Place => {
    const place = places.get(tensor)
    if (place === undefined) throw new Error(`"${tensor.name}" is not allocated`)
    return place
  }
  /** Waits for what is mapped; a device that was lost meanwhile says so instead. */
  const mapped = async (buffer: GPUBuffer, bytes: number): Promise<ArrayBuffer> => {
    await buffer.mapAsync(mapRead, 0, bytes).catch(lost)
    const copy = buffer.getMappedRange(0, bytes).slice(0)
    buffer.unmap()
    readBack += bytes
    return copy
  }

  type Staging = { buffer: GPUBuffer; used: number; bytes: Promise<ArrayBuffer> | null }
  const spare: GPUBuffer[] = []
  let staging: Staging | null = null
  const openStaging = (bytes: number): Staging => {
    if (staging && staging.bytes === null && staging.used + bytes <= staging.buffer.size) return staging
    const size = Math.max(stagingBytes, bytes)
    const at = spare.findIndex((buffer) => buffer.size >= size)
    return (staging = { buffer: at >= 0 ? spare.splice(at, 1)[0]! : makeBuffer(size, usage.mapRead | usage.copyTarget), used: 0, bytes: null })
  }
  const fetchStaging = (from: Staging): Promise<ArrayBuffer> => {
    from.bytes ??= mapped(from.buffer, from.used).finally(() => spare.push(from.buffer))
    return from.bytes
  }

  const settle = async (): Promise<void> => {
    const waiting = checks
    checks = []
    await Promise.all(waiting)
  }

  return {
    slabBytes,
    heldBytes: () => held,
    readBytes: () => readBack,
    has: (tensor) => places.has(tensor),
    placeOf,
    slabs,
    freeSlabs: (of) => of.buffers.forEach(destroy),
    settle,

    allocate(tensors) {
      const taken = tensors.find((tensor) => places.has(tensor) || tensor.place !== 'persistent')
      if (taken !== undefined) throw new Error(`allocate: "${taken.name}" is ${taken.place === 'scratch' ? 'scratch' : 'allocated already'}`)
      const largest = tensors.find((tensor) => elementCount(tensor) * 4 > slabBytes)
      if (largest) {
        throw new AppError('backend.tensorTooLarge', `"${largest.name}" [${largest.shape.join(', ')}] has ${elementCount(largest) * 4} bytes, and one buffer of this GPU holds at most ${slabBytes}`, {
          params: { tensor: largest.name, sizeBytes: elementCount(largest) * 4, limitBytes: slabBytes },
          hint: 'Choose a smaller model, or use the CPU.',
        })
      }
      const layout = planPersistent(tensors, slabBytes)
      const group = { slabs: slabs(layout.totalBytes), tensors: [...tensors] }
      for (const [tensor, offset] of layout.offsets) {
        places.set(tensor, placeIn(group.slabs, offset))
        groups.set(tensor, group)
      }
    },

    release(tensors) {
      if (tensors.length === 0) return
      const group = groups.get(tensors[0]!)
      if (!group || group.tensors.length !== tensors.length || !tensors.every((tensor) => groups.get(tensor) === group)) {
        throw new Error(`release: "${tensors[0]!.name}" was allocated with ${group?.tensors.length ?? 'no'} tensors, all of which must be released together`)
      }
      group.slabs.buffers.forEach(destroy)
      for (const tensor of tensors) {
        places.delete(tensor)
        groups.delete(tensor)
      }
    },

    uniform(bytes) {
      const buffer = makeBuffer(bytes.byteLength, usage.uniform | usage.copyTarget)
      device.queue.writeBuffer(buffer, 0, bytes)
      return buffer
    },

    write(tensor, data, elementOffset) {
      if ((tensor.dtype === 'i32') !== data instanceof Int32Array) throw new TypeError(`write: "${tensor.name}" is ${tensor.dtype}, the data is ${data.constructor.name}`)
      if (elementOffset < 0 || elementOffset + data.length > elementCount(tensor)) {
        throw new RangeError(`write: elements ${elementOffset} to ${elementOffset + data.length} of "${tensor.name}", which has ${elementCount(tensor)}`)
      }
      const { buffer, byteOffset } = placeOf(tensor)
      const elements = asBytes(data)
      for (let from = 0; from < elements.length; from += transferBytes / 4) {
        const part = elements.subarray(from, from + transferBytes / 4)
        device.queue.writeBuffer(buffer, byteOffset + (elementOffset + from) * 4, part.buffer as ArrayBuffer, part.byteOffset, part.byteLength)
      }
    },

    async read(tensor) {
      const { buffer, byteOffset } = placeOf(tensor)
      const whole = new Uint8Array(elementCount(tensor) * 4)
      const size = Math.min(whole.byteLength, transferBytes)
      const target = makeBuffer(size, usage.mapRead | usage.copyTarget)
      for (let from = 0; from < whole.byteLength; from += size) {
        const bytes = Math.min(size, whole.byteLength - from)
        const encoder = device.createCommandEncoder()
        encoder.copyBufferToBuffer(buffer, byteOffset + from, target, 0, bytes)
        device.queue.submit([encoder.finish()])
        whole.set(new Uint8Array(await mapped(target, bytes)), from)
      }
      destroy(target)
      return fromBytes(tensor, whole.buffer)
    },

    snapshot(tensors) {
      const sizes = tensors.map((tensor) => elementCount(tensor) * 4)
      const target = openStaging(sizes.reduce((a, b) => a + b, 0))
      const encoder = device.createCommandEncoder()
      const spans = tensors.map((tensor, i) => {
        const { buffer, byteOffset } = placeOf(tensor)
        const from = target.used
        encoder.copyBufferToBuffer(buffer, byteOffset, target.buffer, from, sizes[i]!)
        target.used += sizes[i]!
        return { tensor, from, to: from + sizes[i]! }
      })
      device.queue.submit([encoder.finish()])
      return async () => {
        const bytes = await fetchStaging(target)
        return spans.map(({ tensor, from, to }) => fromBytes(tensor, bytes.slice(from, to)))
      }
    },

    close() {
      for (const { slabs: own } of new Set(groups.values())) own.buffers.forEach(destroy)
      spare.forEach(destroy)
      places.clear()
      groups.clear()
    },
  }
}
