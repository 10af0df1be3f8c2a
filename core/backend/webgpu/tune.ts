/**
 * Chooses kernel variants at start-up by measuring them on the device: a matrix product of each form, a row kernel with each reduction.
 * A variant whose result differs from the plain one's is never chosen. Takes some tenths of a second on a card; the choice is remembered
 * by adapter, driver and kernels, so that a resumed run computes as before.
 */
import { persistent, type Backend, type Plan, type PreparedPlan, type Tensor, type TensorData } from '../backend.ts'
import { record } from '../record.ts'
import type { GpuAdapter } from './adapters.ts'
import { composeKernel, type MatrixUnits, type Variants } from './kernels.ts'

/** What every adapter can run. */
export const plainVariants: Variants = { gemm: 'gemm-direct', reduce: 'reduce-tree', operand: 'f32' }

export type Tuning = {
  backend: Backend & { readonly adapter: GpuAdapter }
  prepareWith(plan: Plan, variants: Variants): Promise<PreparedPlan>
  precision: 'float32' | 'mixed'
  matrixUnits: readonly MatrixUnits[]
  remembered?: { get(key: string): Variants | undefined; set(key: string, variants: Variants): void } | undefined
}

type Trial = { tensors: Tensor[]; out: Tensor; plan: Plan }

/** A tensor so small that reading it costs nothing but the wait. */
const waitFor = (): Tensor => persistent('tune.wait', [1])

/** y = x·wᵀ with values that a float32 sum keeps exact, so that every right variant agrees to the last bits. */
async function productTrial(backend: Backend, size: number): Promise<Trial> {
  const [x, weight, y] = ['x', 'weight', 'y'].map((name) => persistent(`tune.${name}`, [size, size])) as [Tensor, Tensor, Tensor]
  const tensors = [x, weight, y, waitFor()]
  backend.allocate(tensors)
  const data = Float32Array.from({ length: size * size }, (_, i) => ((i * 7919) % 17) / 16 - 0.5)
  await backend.write(x, data)
  await backend.write(weight, data.slice().reverse())
  return { tensors, out: y, plan: record('tune product', (b) => b.linearForward({ y, x, weight })) }
}

async function rowTrial(backend: Backend, rows: number, width: number): Promise<Trial> {
  const [x, y] = ['x', 'y'].map((name) => persistent(`tune.rows.${name}`, [rows, width])) as [Tensor, Tensor]
  const weight = persistent('tune.rows.weight', [width])
  const rstd = persistent('tune.rows.rstd', [rows])
  const tensors = [x, y, weight, rstd, waitFor()]
  backend.allocate(tensors)
  await backend.write(x, Float32Array.from({ length: rows * width }, (_, i) => ((i * 7919) % 17) / 16 - 0.5))
  await backend.write(weight, new Float32Array(width).fill(1))
  return { tensors, out: y, plan: record('tune rows', (b) => b.rmsNormForward({ y, rstd, x, weight, eps: 1e-5 })) }
}

function agrees(found: TensorData, expected: TensorData, tolerance: number): boolean {
  const pairs = Array.from(expected, (value, i) => [Math.abs(value - found[i]!), Math.abs(value)] as const)
  const most = pairs.reduce((largest, [, size]) => Math.max(largest, size), 0)
  return pairs.every(([difference]) => difference <= tolerance * most)
}

/** The fastest of `candidates` (the first is the plain one) whose result agrees with the plain one's. */
async function fastest({ backend, prepareWith }: Tuning, trial: Trial, candidates: readonly Variants[]): Promise<Variants> {
  let best = { variants: candidates[0]!, seconds: Infinity }
  let expected: TensorData | null = null
  for (const variants of candidates) {
    const plan = await prepareWith(trial.plan, variants).catch((cause: unknown) => {
      if (variants === candidates[0]) throw cause
      return null
    })
    if (!plan) continue
    await plan.run()
    const result = await backend.read(trial.out)
    expected ??= result
    if (!agrees(result, expected, 1e-5)) continue
    let seconds = Infinity
    for (let round = 0; round < 3; round++) {
      const startedAt = performance.now()
      for (let again = 0; again < 4; again++) await plan.run()
      await backend.snapshot([trial.tensors.at(-1)!]).read()
      seconds = Math.min(seconds, performance.now() - startedAt)
    }
    if (seconds < best.seconds) best = { variants, seconds }
  }
  backend.release(trial.tensors)
  return best.variants
}

/** A short hash of the kernels' text: other kernels, another choice. */
function kernelsKey(): string {
  const text = [composeKernel('linearForward', { ...plainVariants, gemm: 'gemm-tile' }), composeKernel('rmsNormForward', plainVariants)].join('')
  let hash = 0
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0
  return (hash >>> 0).toString(36)
}

/** The variants for this device and precision, from memory or by measuring. */
export async function chooseVariants(tuning: Tuning): Promise<Variants> {
  const { backend, precision, remembered } = tuning
  const { adapter } = backend
  const key = `${adapter.id} ${adapter.driver} ${precision} ${kernelsKey()}`
  const known = remembered?.get(key)
  if (known) return known
  const operand = precision === 'mixed' ? 'f16' : 'f32'
  const tile: Variants = { ...plainVariants, gemm: 'gemm-tile', operand }
  const matrix = tuning.matrixUnits.filter((units) => units.operand === operand).map((units): Variants => ({ ...tile, gemm: 'gemm-matrix', matrix: units }))
  // Only operands in workgroup memory can be float16, so there the tile is the plain one.
  const products = precision === 'mixed' ? [tile, ...matrix] : [plainVariants, tile, ...matrix]
  const product = await fastest(tuning, await productTrial(backend, adapter.isSoftware ? 128 : 1024), products)
  const row = adapter.features.subgroups
    ? await fastest(tuning, await rowTrial(backend, adapter.isSoftware ? 128 : 8192, 1024), [plainVariants, { ...plainVariants, reduce: 'reduce-subgroups' }])
    : plainVariants
  const chosen: Variants = { ...product, reduce: row.reduce }
  remembered?.set(key, chosen)
  return chosen
}
