/**
 * Finds and loads the native addon, and says in types what it offers (native/cpu/addon.cpp). The addon is built by
 * `node-gyp rebuild --directory native`; in a packaged application it lies unpacked beside the archive. A missing or
 * unloadable addon is an AppError with a hint; wrong arguments are the addon's own TypeErrors.
 */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AppError } from '#core/shared/errors.ts'

/** Kernel sets, best first. `portable` exists everywhere; the others where the processor has the instructions. */
export type InstructionSet = 'avx512bf16' | 'avx512vnni' | 'avx512' | 'avx2' | 'portable'

/** Zero-filled memory outside the JavaScript heap. Throws while a run of its context is in flight. */
export type NativeMemory = {
  readonly byteLength: number
  /** Copies `data` in at `byteOffset`. */
  write(byteOffset: number, data: ArrayBufferView): void
  /** Fills `data` from `byteOffset`. */
  read(byteOffset: number, data: ArrayBufferView): void
  /** Other zero-filled memory in its place; plans bound to it stay valid if it still holds their tensors. */
  resize(bytes: number): void
  /** Begins to bring its pages in, in the background, where the system can. */
  populate(): void
  /** Gives the memory back now; plans bound to it reject from then on. */
  free(): void
}

/** An op of a plan: tensors in record order (null = optional, left out), each at a place in memory. `half`: of bf16. `format`: packed. `precise`: float32 whatever the context computes in. */
export type NativeRecord = {
  op: string
  tensors: ({ memory: NativeMemory; byteOffset: number; shape: readonly number[]; half?: boolean; format?: 'bf16' | 'q8' | 'q4' | undefined } | null)[]
  attrs: readonly number[]
  precise?: boolean
  /** How many of the leading tensors the op changes: weights packed from them are stale afterwards. */
  writes?: number
  /** The op's weight stays packed between runs, where the op can keep it. */
  keepsWeight?: boolean
}

export type NativePlan = {
  /** Runs all ops on a worker thread. Rejects on an index out of range; throws if a run of the context is in flight. */
  run(): Promise<number>
  /** The same on the calling thread, which it blocks. */
  runNow(): void
}

/** Threads, one kernel set and a workspace. */
export type NativeContext = {
  readonly isa: InstructionSet
  readonly threads: number
  /** float32 too where mixed was asked for and the kernel set has no bf16. */
  readonly precision: 'float32' | 'mixed'
  /** Bytes of workspace and of packed weights that are kept. */
  readonly byteLength: number
  /** Bit i is set where tensor i of the op may be bf16. */
  halves(op: string): number
  allocate(bytes: number): NativeMemory
  /** A file as memory: read-only, not copied, read as it is used. Throws the system's reason. */
  map(path: string): NativeMemory
  prepare(records: readonly NativeRecord[]): NativePlan
  /** Memory.populate() of the workspace. */
  populate(): void
  /** Multiply-add peak of all threads, FLOP/s. */
  measurePeak(): Promise<number>
  /** Bytes per second of all threads reading memory. */
  measureBandwidth(): Promise<number>
  /** Nanoseconds spent in each op since the context was made; ops never run are left out. */
  profile(): Record<string, number>
  /** Ends the threads and frees the workspace; the context's plans throw from then on, its memory stays until it is freed. */
  close(): void
}

export type NativeModule = {
  /** The kernel sets that this processor can run, best first. */
  instructionSets(): InstructionSet[]
  createContext(options: { threads?: number | undefined; isa?: string | undefined; mixed?: boolean | undefined }): NativeContext
}

const builtFile = join('native', 'build', 'Release', 'moe.node')

/** Places of a file of native/: unpacked beside a packaged application, then upwards from this file (or the bundle it is in). */
function findFile(path: string): string | undefined {
  const resources = (process as { resourcesPath?: string }).resourcesPath
  const list = resources === undefined ? [] : [join(resources, 'app.asar.unpacked', path)]
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    list.push(join(folder, path))
    if (folder === dirname(folder)) return list.find((candidate) => existsSync(candidate))
  }
}

let loaded: NativeModule | undefined

/** The addon. Throws AppError `native.missing` when it is not built, `native.broken` when it cannot be loaded. */
export function loadNative(): NativeModule {
  if (loaded !== undefined) return loaded
  const file = findFile(builtFile)
  if (file === undefined) {
    throw new AppError('native.missing', `The CPU kernels are not built: no ${builtFile}`, {
      params: { file: builtFile },
      hint: 'Run "npm start" or "npm test" once: both build them. A C++ compiler, make and Python are needed.',
    })
  }
  try {
    loaded = createRequire(import.meta.url)(file) as NativeModule
  } catch (cause) {
    throw new AppError('native.broken', `The CPU kernels cannot be loaded: ${file}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      params: { file },
      hint: 'Remove native/build and run "npm start": it builds them again for this machine.',
      cause,
    })
  }
  return loaded
}

/** WGSL of a GPU kernel, `linearForward`, or of a part that kernels share, `lib/gemm`. */
export function readKernelSource(name: string): string {
  const path = join('native', 'gpu', `${name}.wgsl`)
  const file = findFile(path)
  if (file === undefined) {
    throw new AppError('native.missing', `The GPU kernel ${path} is missing`, { params: { file: path }, hint: 'The installation is incomplete: install it again.' })
  }
  return readFileSync(file, 'utf8')
}
