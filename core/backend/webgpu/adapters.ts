/**
 * The GPUs of this machine, as Dawn (npm `webgpu`) finds them over Vulkan, Metal or Direct3D 12, and how one is opened.
 * Dawn is loaded only when something asks: a machine without it, or without a driver, simply has no GPU.
 * It owns no memory and runs nothing. Software adapters are listed last and named as such; one is taken unasked only where
 * there is no card.
 */
import type * as webgpu from 'webgpu'
import { AppError } from '#core/shared/errors.ts'
import type { MatrixUnits } from './kernels.ts'

/** The interfaces that Dawn may drive a card through, best first where one card is seen through several. */
const apis = ['d3d12', 'metal', 'vulkan'] as const

export type GpuAdapter = {
  /** What opens it again: interface and name. Equal cards of one machine share an id, and the first is used. */
  readonly id: string
  readonly name: string
  readonly vendor: string
  readonly architecture: string
  readonly driver: string
  readonly api: string
  /** It computes on the CPU: for tests, not for speed. */
  readonly isSoftware: boolean
  readonly features: {
    readonly f16: boolean
    /** Smallest and largest subgroup; null when the adapter has none. */
    readonly subgroups: readonly [number, number] | null
    readonly timestamps: boolean
    /** Matrix units: "f16 × f16 → f32, 16×16×16" and the like. Empty when Dawn exposes none. */
    readonly subgroupMatrix: readonly string[]
  }
  readonly limits: {
    readonly maxBufferBytes: number
    readonly maxBindingBytes: number
    readonly maxWorkgroupMemoryBytes: number
    readonly maxWorkgroupThreads: number
  }
}

type MatrixConfig = { componentType: string; resultComponentType: string; M: number; N: number; K: number }
type DawnInfo = GPUAdapterInfo & { readonly isFallbackAdapter: boolean; readonly subgroupMatrixConfigs?: Iterable<MatrixConfig> }
type Dawn = Pick<typeof webgpu, 'create' | 'globals'>

export const subgroupMatrixFeature = 'chromium-experimental-subgroup-matrix'
/** Matrix units are an experiment of Dawn's and hidden without this. */
const toggles = 'enable-dawn-features=allow_unsafe_apis'
/** Workgroup memory is zeroed by the kernels themselves: SwiftShader unrolls the extension that does it, a second of compiling per kernel. */
const softwareToggles = 'disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension'

let dawn: Promise<Dawn> | undefined

/** The Dawn module. Throws AppError `device.missing` when the optional package is absent or does not fit the platform. */
async function loadDawn(): Promise<Dawn> {
  dawn ??= import('webgpu')
  try {
    const module = await dawn
    Object.assign(globalThis, module.globals)
    return module
  } catch (cause) {
    throw new AppError('device.missing', `WebGPU cannot be loaded here: ${cause instanceof Error ? cause.message : String(cause)}`, {
      hint: 'The package "webgpu" carries it for Linux, macOS and Windows. Run "npm ci --include=optional", or use the CPU.',
      cause,
    })
  }
}

/** Interfaces and names of all adapters: Dawn gives the list in the error for a name that none has. */
async function adapterNames(module: Dawn): Promise<{ api: string; name: string }[]> {
  try {
    await module.create([toggles, 'adapter=\u0001']).requestAdapter()
    return []
  } catch (error) {
    const lines = [...String(error).matchAll(/backend: '([^']+)', name: '(.+)'/g)].map(([, api = '', name = '']) => ({ api, name }))
    return lines.filter(({ api }) => (apis as readonly string[]).includes(api))
  }
}

function describeAdapter(adapter: GPUAdapter, api: string, name: string): GpuAdapter {
  const info = adapter.info as DawnInfo
  const configs = adapter.features.has(subgroupMatrixFeature) ? [...(info.subgroupMatrixConfigs ?? [])] : []
  const { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup } = adapter.limits
  return {
    id: `${api}:${name}`,
    name,
    vendor: info.vendor,
    architecture: info.architecture,
    driver: info.description,
    api,
    isSoftware: info.isFallbackAdapter,
    features: {
      f16: adapter.features.has('shader-f16'),
      subgroups: adapter.features.has('subgroups') ? [info.subgroupMinSize ?? 4, info.subgroupMaxSize ?? 128] : null,
      timestamps: adapter.features.has('timestamp-query'),
      subgroupMatrix: configs.map((c) => `${c.componentType} × ${c.componentType} → ${c.resultComponentType}, ${c.M}×${c.N}×${c.K}`),
    },
    limits: {
      maxBufferBytes: maxBufferSize,
      maxBindingBytes: maxStorageBufferBindingSize,
      maxWorkgroupMemoryBytes: maxComputeWorkgroupStorageSize,
      maxWorkgroupThreads: maxComputeInvocationsPerWorkgroup,
    },
  }
}

export type OpenAdapter = { gpu: GPU; adapter: GPUAdapter; about: GpuAdapter; matrixUnits: readonly MatrixUnits[] }

/** The configurations of matrix units that lib/gemm-matrix.wgsl can use: float32 sums, strips of 16 rows, one size of subgroup. */
function matrixUnitsOf(adapter: GPUAdapter): MatrixUnits[] {
  const { subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs = [] } = adapter.info as DawnInfo
  if (!adapter.features.has(subgroupMatrixFeature) || subgroupMinSize !== subgroupMaxSize || !subgroupMaxSize) return []
  if (4 * subgroupMaxSize > adapter.limits.maxComputeInvocationsPerWorkgroup) return []
  return [...subgroupMatrixConfigs]
    .filter((c) => c.resultComponentType === 'f32' && (c.componentType === 'f16' || c.componentType === 'f32') && 16 % c.M === 0 && 32 % c.N === 0 && c.K <= 32)
    .map((c) => ({ operand: c.componentType as MatrixUnits['operand'], M: c.M, N: c.N, K: c.K, subgroupThreads: subgroupMaxSize }))
}

async function openNamed(module: Dawn, api: string, name: string, isSoftware = false): Promise<OpenAdapter | null> {
  const gpu = module.create([toggles, ...(isSoftware ? [softwareToggles] : []), `backend=${api}`, ...(name === '' ? [] : [`adapter=${name}`])])
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' })
  return adapter && { gpu, adapter, about: describeAdapter(adapter, api, name), matrixUnits: matrixUnitsOf(adapter) }
}

/** Every usable adapter: cards first, software last. Empty where there is no GPU, no driver or no Dawn. */
export async function listAdapters(): Promise<GpuAdapter[]> {
  const module = await loadDawn().catch(() => null)
  if (module === null) return []
  const found = new Map<string, GpuAdapter>()
  for (const { api, name } of await adapterNames(module)) {
    const open = await openNamed(module, api, name).catch(() => null)
    if (open) found.set(open.about.id, open.about)
  }
  return [...found.values()].sort((a, b) => Number(a.isSoftware) - Number(b.isSoftware))
}

/**
 * Opens the adapter with this id; null takes the first card, or where there is none a software adapter.
 * `null-backend` opens Dawn's null backend, which compiles everything and runs nothing (for tests).
 * Throws AppError `device.missing` or `device.notFound`, which names what there is.
 */
export async function openAdapter(id: string | null): Promise<OpenAdapter> {
  const module = await loadDawn()
  if (id === 'null-backend') return (await openNamed(module, 'null', ''))!
  const known = await listAdapters()
  const wanted = id === null ? known[0] : known.find((adapter) => adapter.id === id)
  const open = wanted && (await openNamed(module, wanted.api, wanted.name, wanted.isSoftware))
  if (open) return open
  const expected = known.map((adapter) => adapter.id).join(', ') || 'none'
  throw new AppError('device.notFound', id === null ? 'This machine has no GPU that WebGPU can use' : `There is no GPU "${id}" here; found: ${expected}`, {
    params: { found: id ?? '', expected },
    hint: 'Check the graphics driver (Vulkan, Metal or Direct3D 12), choose another device, or use the CPU.',
  })
}

/** A device with every limit and feature of the adapter that the kernels can use. */
export async function openDevice({ adapter }: Pick<OpenAdapter, 'adapter'>): Promise<GPUDevice> {
  const wanted = ['shader-f16', 'subgroups', 'timestamp-query', subgroupMatrixFeature].filter((feature) => adapter.features.has(feature))
  const { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupStorageSize, maxStorageBuffersPerShaderStage } = adapter.limits
  return adapter.requestDevice({
    requiredFeatures: wanted as GPUFeatureName[],
    requiredLimits: { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupStorageSize, maxStorageBuffersPerShaderStage },
  })
}
