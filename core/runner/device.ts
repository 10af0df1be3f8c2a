/**
 * From a device's name to what computes on it: the one place of the entries (runner and command line) that knows which
 * backends there are. Also lists and measures them. Throws the backends' own errors; keeps nothing open that it does not return.
 */
import { cpus } from 'node:os'
import type { Backend } from '#core/backend/backend.ts'
import { createCpuBackend, type CpuBackend } from '#core/backend/cpu.ts'
import { listAdapters, type GpuAdapter } from '#core/backend/webgpu/adapters.ts'
import type { Variants } from '#core/backend/webgpu/kernels.ts'
import { createWebGpuBackend, type WebGpuBackend, type WebGpuOptions } from '#core/backend/webgpu/webgpu.ts'
import type { DeviceInfo, Measured } from '#core/shared/devices.ts'
import type { KernelChoices } from '#core/shared/jobs.ts'
import type { RunConfig, RunDevice } from '#core/shared/runs.ts'
import type { JobContext } from './context.ts'
import { machineMemoryBytes } from './memory-plan.ts'

export type DeviceChoice = Pick<RunConfig, 'device' | 'adapter' | 'precision' | 'threads'>
export type OpenDevice = {
  backend: Backend
  /** Its peak is the caller's to know. */
  about: Omit<RunDevice, 'flopsPerSecond'>
  /** The most that one tensor may have; null: no limit of its own. */
  bindingLimitBytes: number | null
}

/** The choices of kernels that the core remembers, and the way to add one. */
export type Kernels = { known: KernelChoices; onChosen(key: string, choice: string): void }

/** As a job has them. */
export const kernelsOf = (job: { kernels: KernelChoices }, { send }: JobContext): Kernels => ({ known: job.kernels, onChosen: (key, choice) => send({ type: 'kernels', key, choice }) })

export const cpuChoice: DeviceChoice = { device: 'cpu', adapter: null, precision: 'float32', threads: 0 }

/** The number is remembered: whatever else the machine does for a moment must not be. */
const cpuRounds = 4

/** As people write them. */
const instructionSetNames = { avx512bf16: 'AVX-512 with bf16', avx512vnni: 'AVX-512 VNNI', avx512: 'AVX-512', avx2: 'AVX2', portable: 'portable' } as const

const processorName = (): string => cpus()[0]?.model.trim() || 'unknown processor'

/** Opens the device that a recipe names; without `kernels`, a card's are chosen anew. */
export async function openDevice({ device, adapter, precision, threads, ...step }: DeviceChoice & Partial<Pick<RunConfig, 'sequencesPerStep' | 'sequencesPerMicroBatch'>>, kernels?: Kernels): Promise<OpenDevice> {
  if (device === 'cpu') {
    // Weights change once a step: with several micro-batches it pays to keep them packed.
    const keepsWeights = (step.sequencesPerMicroBatch ?? Infinity) < (step.sequencesPerStep ?? 0)
    const backend = createCpuBackend({ precision, keepsWeights, ...(threads > 0 && { threads }) })
    return { backend, about: aboutCpu(backend), bindingLimitBytes: null }
  }
  const backend = await createWebGpuBackend({ adapter, precision, remembered: rememberedBy(kernels) })
  return { backend, about: aboutCard(backend), bindingLimitBytes: backend.adapter.limits.maxBindingBytes }
}

/** FLOP/s that a run is measured against: the remembered peak is that of float32; bf16's is measured here, in some milliseconds. */
export const peakFor = async ({ backend, about }: OpenDevice, rememberedFlopsPerSecond: number | null): Promise<number | null> =>
  about.kind === 'cpu' && about.precision === 'mixed' ? backend.measurePeak() : rememberedFlopsPerSecond

const rememberedBy = (kernels: Kernels | undefined): WebGpuOptions['remembered'] =>
  kernels && {
    get: (key) => (kernels.known[key] === undefined ? undefined : (JSON.parse(kernels.known[key]) as Variants)),
    set: (key, variants) => kernels.onChosen(key, JSON.stringify(variants)),
  }

const aboutCpu = ({ isa, precision }: CpuBackend): OpenDevice['about'] => ({
  kind: 'cpu',
  name: processorName(),
  api: instructionSetNames[isa],
  driver: '',
  precision,
  isSoftware: false,
})

const aboutCard = ({ adapter: { name, api, driver, isSoftware }, precision }: WebGpuBackend): OpenDevice['about'] => ({ kind: 'webgpu', name, api, driver, precision, isSoftware })

/** The CPU as a device, its kernels having been loaded. */
export async function describeCpu(): Promise<DeviceInfo> {
  const backend = createCpuBackend({ precision: 'mixed' })
  const { isa, threads, precision } = backend
  await backend.close()
  return {
    id: 'cpu',
    kind: 'cpu',
    name: processorName(),
    vendor: '',
    architecture: instructionSetNames[isa],
    driver: '',
    api: '',
    isSoftware: false,
    threads,
    memoryBytes: machineMemoryBytes(),
    features: { f16: precision === 'mixed', subgroups: null, timestamps: false, subgroupMatrix: [] },
    limits: null,
    measured: null,
  }
}

/** The graphics cards, real ones first. */
export async function describeCards(): Promise<DeviceInfo[]> {
  return (await listAdapters()).map(describeCard)
}

function describeCard({ features, limits, ...adapter }: GpuAdapter): DeviceInfo {
  const subgroups: [number, number] | null = features.subgroups && [...features.subgroups]
  return { ...adapter, kind: 'webgpu', threads: null, memoryBytes: null, features: { ...features, subgroups, subgroupMatrix: [...features.subgroupMatrix] }, limits: { ...limits }, measured: null }
}

/** The multiply-add peak of a device and, for a card, what its memory moves in a second. */
export async function measureDevice(id: string, kernels?: Kernels): Promise<Measured> {
  if (id === 'cpu') {
    const backend = createCpuBackend()
    let flopsPerSecond = 0
    for (let round = 0; round < cpuRounds; round++) flopsPerSecond = Math.max(flopsPerSecond, await backend.measurePeak())
    await backend.close()
    return { flopsPerSecond, bytesPerSecond: null }
  }
  const backend = await createWebGpuBackend({ adapter: id, remembered: rememberedBy(kernels) })
  const flopsPerSecond = await backend.measurePeak()
  const bytesPerSecond = await backend.measureBandwidth()
  await backend.close()
  return { flopsPerSecond, bytesPerSecond }
}
