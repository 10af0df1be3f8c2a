/**
 * The software GPUs that the tests run on, in place of a card: SwiftShader (subgroups of 4, no float16, slow barriers) and lavapipe
 * (subgroups of 8, float16, bindings of at most 128 MiB). One that is not here is skipped by name, never silently.
 */
import { test } from 'vitest'
import { listAdapters } from '#core/backend/webgpu/adapters.ts'
import type { Variants } from '#core/backend/webgpu/kernels.ts'
import { createWebGpuBackend, type WebGpuBackend, type WebGpuOptions } from '#core/backend/webgpu/webgpu.ts'

const known = await listAdapters()
const idOf = (part: string): string | undefined => known.find((adapter) => adapter.isSoftware && adapter.name.includes(part))?.id

/** Kernel variants that every adapter here runs. */
export const plain: Variants = { gemm: 'gemm-direct', reduce: 'reduce-tree', operand: 'f32' }
export const tiled: Variants = { gemm: 'gemm-tile', reduce: 'reduce-subgroups', operand: 'f32' }

export type TestGpu = {
  readonly name: 'SwiftShader' | 'lavapipe'
  open(options?: WebGpuOptions): Promise<WebGpuBackend>
  /** The file's own device with the plain kernels, each compiled once: closing it does nothing. */
  share(): Promise<WebGpuBackend>
}

/** Software drivers take their time to compile a kernel when they first meet it, the more so beside other tests. */
export const patienceMs = 180_000

const gpu = (name: TestGpu['name'], part: string): TestGpu & { id: string | undefined } => {
  const id = idOf(part)
  const open: TestGpu['open'] = (options = {}) => createWebGpuBackend({ adapter: id ?? null, variants: plain, ...options })
  let shared: Promise<WebGpuBackend> | undefined
  return { name, id, open, share: () => (shared ??= open().then((backend) => Object.assign(backend, { close: async () => undefined }))) }
}

const all = [gpu('SwiftShader', 'SwiftShader'), gpu('lavapipe', 'llvmpipe')]

/** Those of this machine. */
export const testGpus: readonly TestGpu[] = all.filter(({ id }) => id !== undefined)

/** Marks what a missing adapter leaves undone, so that the closing list names it. */
export function nameMissingGpus(what: string): void {
  for (const { name, id } of all) if (id === undefined) test.skip(`${what} on ${name}: it is not on this machine`, () => undefined)
}

/** The adapter of this name, or undefined. */
export const testGpu = (name: TestGpu['name']): TestGpu | undefined => testGpus.find((found) => found.name === name)
