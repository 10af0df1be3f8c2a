/**
 * From WGSL files to pipelines. A kernel is one file of native/gpu; files of native/gpu/lib that it names in a line
 * `// uses: reduce grid` are put in front of it. That is all the composing there is: no macros, no generator.
 * Bindings and parameters are read off the source, so that they are passed by the names they have there.
 *
 * Every storage binding is read_write: tensors of one arena share a buffer, and WebGPU lets one buffer be writable and
 * read-only in one dispatch in no case, but writable at two ranges that do not overlap.
 */
import { readKernelSource } from '#native/index.ts'

/** Which of several equal parts are used: chosen by measuring (tune.ts), by name of the lib file without its directory. */
export type Variants = {
  /** Blocks of a matrix product: in registers, in workgroup memory, with f16 operands there, or on matrix units. */
  readonly gemm: 'gemm-direct' | 'gemm-tile' | 'gemm-matrix'
  /** Sums over a workgroup: by a tree in workgroup memory, or by subgroups. */
  readonly reduce: 'reduce-tree' | 'reduce-subgroups'
  /** Operands of the forward matrix products in workgroup memory. */
  readonly operand: 'f32' | 'f16'
  /** The matrix units that `gemm-matrix` uses; products with other operands are made by `gemm-tile`. */
  readonly matrix?: MatrixUnits | undefined
}

/** Operands of M×K and K×N of one type, sums in float32, held by all threads of a subgroup together. */
export type MatrixUnits = { readonly operand: 'f32' | 'f16'; readonly M: number; readonly N: number; readonly K: number; readonly subgroupThreads: number }

export type Field = { readonly name: string; readonly type: 'u32' | 'i32' | 'f32' }

export type Kernel = {
  readonly name: string
  /** Compiles it, once. Errors in WGSL are bugs and name the kernel and the line. */
  compile(): Promise<Compiled>
  /** Storage bindings by number, from 1 on; binding 0 holds the parameters. */
  readonly bindings: readonly { readonly number: number; readonly name: string }[]
  readonly params: readonly Field[]
}

export type Compiled = { readonly pipeline: GPUComputePipeline; readonly layout: GPUBindGroupLayout }

/** What a kernel's text says of itself. */
export function parseKernel(name: string, code: string): Pick<Kernel, 'bindings' | 'params'> {
  const bindings = [...code.matchAll(/@group\(0\) @binding\((\d+)\) var<storage, read_write> (\w+):/g)].map(([, number, variable]) => ({ number: Number(number), name: variable! }))
  const struct = /struct Params \{([^}]*)\}/.exec(code)
  if (!struct || bindings.length === 0) throw new Error(`${name}.wgsl: no Params or no storage binding`)
  const params = [...struct[1]!.matchAll(/(\w+): (u32|i32|f32)/g)].map(([, field, type]) => ({ name: field!, type: type as Field['type'] }))
  return { bindings, params }
}

/** Parts that a file asks for, in order. `gemm` brings the variant's own part, `reduce` likewise. */
function partsOf(name: string, code: string, variants: Variants, scalar: boolean): string[] {
  const named = /^\/\/ uses: (.+)$/m.exec(code)?.[1]?.split(' ') ?? []
  return named.flatMap((part) => {
    if (part === 'reduce') return [variants.reduce]
    if (part !== 'gemm') return [part]
    const operand = name.endsWith('Forward') ? variants.operand : 'f32'
    const form = variants.gemm === 'gemm-matrix' && variants.matrix?.operand !== operand ? 'gemm-tile' : variants.gemm
    return scalar ? ['gemm-scalar'] : ['gemm', `operand-${operand}`, form]
  })
}

/** The whole source of a kernel. `scalar`: widths are no multiples of four, so nothing is loaded by fours. */
export function composeKernel(name: string, variants: Variants, scalar = false): string {
  const own = readKernelSource(name)
  const parts = partsOf(name, own, variants, scalar)
  const { matrix } = variants
  const units = matrix && parts.includes('gemm-matrix') ? [`const matrixM = ${matrix.M}u; const matrixN = ${matrix.N}u; const matrixK = ${matrix.K}u; const subgroupThreads = ${matrix.subgroupThreads}u;`] : []
  const all = [...units, ...parts.map((part) => readKernelSource(`lib/${part}`)), own].join('\n')
  const enables = new Set([...all.matchAll(/^enable .+;$/gm)].map(([line]) => line))
  return [...enables, all.replaceAll(/^enable .+;$/gm, '')].join('\n')
}

/** The kernels of one device, each source read and compiled once. */
export function createKernels(device: GPUDevice): { get(name: string, variants: Variants, scalar?: boolean): Kernel } {
  const known = new Map<string, Kernel>()
  const compile = async (name: string, code: string, bindings: Kernel['bindings']): Promise<Compiled> => {
    const entry = (binding: number, type: GPUBufferBindingType): GPUBindGroupLayoutEntry => ({ binding, visibility: 4, buffer: { type } })
    const layout = device.createBindGroupLayout({ entries: [entry(0, 'uniform'), ...bindings.map(({ number }) => entry(number, 'storage'))] })
    const shader = device.createShaderModule({ label: name, code })
    try {
      const pipeline = await device.createComputePipelineAsync({
        label: name,
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module: shader, entryPoint: 'main' },
      })
      return { pipeline, layout }
    } catch (cause) {
      const messages = (await shader.getCompilationInfo()).messages.map(({ lineNum, message }) => `${lineNum}: ${message} | ${code.split('\n')[lineNum - 1] ?? ''}`)
      throw new Error(`${name}.wgsl does not compile: ${messages.join('; ') || String(cause)}`, { cause })
    }
  }
  return {
    get(name, variants, scalar = false) {
      const code = composeKernel(name, variants, scalar)
      let kernel = known.get(code)
      if (!kernel) {
        const said = parseKernel(name, code)
        let compiled: Promise<Compiled> | undefined
        known.set(code, (kernel = { name, ...said, compile: () => (compiled ??= compile(name, code, said.bindings)) }))
      }
      return kernel
    },
  }
}
