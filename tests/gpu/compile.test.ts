/**
 * Every kernel in every variant, matrix units included, compiled to pipelines on Dawn's null backend, which validates as a card's would
 * and runs nothing. What no adapter here has (matrix units) is shown to be valid by this and by nothing else.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openAdapter, openDevice } from '#core/backend/webgpu/adapters.ts'
import { createKernels, type Variants } from '#core/backend/webgpu/kernels.ts'

const names = readdirSync(join(import.meta.dirname, '../../native/gpu')).filter((file) => file.endsWith('.wgsl')).map((file) => file.slice(0, -'.wgsl'.length))
const matrix = (operand: 'f16' | 'f32', M: number, N: number, K: number, subgroupThreads: number): Variants => ({ gemm: 'gemm-matrix', reduce: 'reduce-subgroups', operand, matrix: { operand, M, N, K, subgroupThreads } })

const variants: Record<string, Variants> = {
  'plain': { gemm: 'gemm-direct', reduce: 'reduce-tree', operand: 'f32' },
  'tiles and subgroups': { gemm: 'gemm-tile', reduce: 'reduce-subgroups', operand: 'f32' },
  'tiles with float16': { gemm: 'gemm-tile', reduce: 'reduce-tree', operand: 'f16' },
  'matrix units f16 16×16×16': matrix('f16', 16, 16, 16, 32),
  'matrix units f16 8×16×16, subgroups of 64': matrix('f16', 8, 16, 16, 64),
  'matrix units f32 8×8×8': matrix('f32', 8, 8, 8, 32),
}

const opened = await openAdapter('null-backend').catch(() => null)
const kernels = opened && createKernels(await openDevice(opened))

test.skipIf(!kernels).each(Object.entries(variants))('%s', async (_, variant) => {
  const made = names.flatMap((name) => [kernels!.get(name, variant), kernels!.get(name, variant, true)])
  const compiled = await Promise.all(made.map((kernel) => kernel.compile()))
  expect(compiled.length).toBe(2 * names.length)
  for (const { name, bindings } of made) expect(bindings.length, `${name}: storage buffers of one kernel`).toBeLessThanOrEqual(8)
  // Dawn lives as long as something holds the object that made the device.
  expect(opened!.gpu).toBeDefined()
})
