/**
 * Every op on software GPUs against the float64 referee, on every case, with the plain kernels and with those for cards: tiles in workgroup
 * memory, sums by subgroups, float16 operands, and weights that no single binding holds.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { lowerPlan } from '#core/backend/webgpu/lower.ts'
import type { WebGpuBackend, WebGpuOptions } from '#core/backend/webgpu/webgpu.ts'
import { record } from '#core/backend/record.ts'
import { persistent } from '#core/backend/backend.ts'
import { opCases, type OpCase } from '../ops/cases.ts'
import { relativeError, runCase } from '../ops/run-case.ts'
import { nameMissingGpus, patienceMs, plain, testGpu, tiled } from './adapters.ts'

const reference = createReferenceBackend()

/** Runs the cases on one backend; `tolerance` of a case may be widened. */
function conforms(title: string, name: 'SwiftShader' | 'lavapipe', options: WebGpuOptions, cases: readonly OpCase[], tolerance = (opCase: OpCase) => opCase.tolerance): void {
  const gpu = testGpu(name)
  describe.skipIf(!gpu)(`${name}: ${title}`, () => {
    let backend: WebGpuBackend | undefined
    const opened = async (): Promise<WebGpuBackend> => (backend ??= await gpu!.open(options))
    afterAll(async () => backend?.close())
    test.each(cases.map((opCase) => ({ title: `${opCase.op}: ${opCase.label}`, opCase })))('$title', async ({ opCase }) => {
      const expected = await runCase(reference, opCase)
      const found = await runCase(await opened(), opCase)
      for (const [output, values] of Object.entries(expected)) {
        const error = relativeError(found[output]!, values)
        worst.set(`${name}: ${title}`, { ...worst.get(`${name}: ${title}`), [opCase.op]: Math.max(error, worst.get(`${name}: ${title}`)?.[opCase.op] ?? 0) })
        expect(error, `${opCase.op} ${opCase.label}: ${output} differs by ${error} of its largest value`).toBeLessThanOrEqual(tolerance(opCase))
      }
    }, patienceMs)
  })
}

nameMissingGpus('op conformance')

/** Worst error of every op by adapter and kernels, as a table in tests/.output/gpu-conformance.md. */
const worst = new Map<string, Record<string, number>>()
afterAll(() => {
  const columns = [...worst.keys()]
  const rows = [...new Set(opCases.map(({ op }) => op))].map((op) => [op, ...columns.map((column) => worst.get(column)![op]?.toExponential(1) ?? '')])
  const line = (cells: string[]): string => `| ${cells.join(' | ')} |`
  const output = join(import.meta.dirname, '../.output')
  mkdirSync(output, { recursive: true })
  writeFileSync(join(output, 'gpu-conformance.md'), [line(['worst error of the largest value', ...columns]), line(['---', ...columns.map(() => '---')]), ...rows.map(line), ''].join('\n'))
})

const isProduct = ({ op }: OpCase): boolean => /inear|head/.test(op)

conforms('plain kernels', 'SwiftShader', { variants: plain }, opCases)
conforms('tiles', 'SwiftShader', { variants: { ...tiled, reduce: 'reduce-tree' } }, opCases.filter((c) => isProduct(c) && c.label === 'widths of four'))
conforms('sums by subgroups of 4', 'SwiftShader', { variants: { ...plain, reduce: 'reduce-subgroups' } }, opCases.filter((c) => !isProduct(c)))
conforms('tiles, sums by subgroups of 8', 'lavapipe', { variants: tiled }, opCases)
// Operands of forward products are rounded to 11 bits; sums and all gradients are not.
conforms('float16 operands', 'lavapipe', { precision: 'mixed', variants: { ...tiled, operand: 'f16' } }, opCases.filter(isProduct), ({ op, tolerance }) => (op.endsWith('Forward') ? 2e-3 : Math.max(tolerance, op === 'headCrossEntropyBackward' ? 2e-3 : 0)))

const wide = (op: string, label: string, sizes: Record<string, number>): OpCase => {
  const first = opCases.find((opCase) => opCase.op === op && opCase.label === label)!
  return { ...first, label: 'weight in windows', sizes: { ...first.sizes, ...sizes }, tolerance: 4e-6 }
}
/** Weights over 32 KiB, activations under it. */
const windowed: OpCase[] = [
  wide('embedForward', 'repeats', { V: 1000 }),
  wide('embedBackward', 'repeats', { V: 1000 }),
  wide('linearForward', 'even', { T: 9, N: 300, J: 40 }),
  wide('linearBackwardInput', 'even', { T: 9, N: 300, J: 40 }),
  wide('linearBackwardWeight', 'even', { T: 9, N: 300, J: 40 }),
  wide('headCrossEntropyForward', 'some ignored', { D: 64, V: 300 }),
  wide('headCrossEntropyBackward', 'some ignored', { D: 64, V: 300 }),
  wide('groupedLinearForward', 'ragged with empty experts', { N: 64, J: 48 }),
  wide('groupedLinearBackwardInput', 'ragged with empty experts', { N: 64, J: 48 }),
  wide('groupedLinearBackwardWeight', 'ragged with empty experts', { N: 64, J: 48 }),
  wide('sumOfSquares', 'long', { X: 20001 }),
  wide('adamwStep', 'step 3', { X: 20001 }),
]
conforms('bindings of 32 KiB', 'SwiftShader', { variants: plain, maxBindingBytes: 32 << 10 }, windowed)

test('each of those weights really is split', () => {
  for (const { op, sizes, label } of windowed) {
    if (!op.startsWith('linear')) continue
    const [T, N, J] = [sizes.T!, sizes.N!, sizes.J!]
    const plan = record(label, (b) => b.linearForward({ y: persistent('y', [T, N]), x: persistent('x', [T, J]), weight: persistent('weight', [N, J]) }))
    expect(lowerPlan(plan.records, { maxBindingBytes: 32 << 10, gemm: 'gemm-direct', constants: new Map() }).length).toBeGreaterThan(1)
  }
})
