/** Every op of every backend against the float64 referee, on every case. */
import { afterAll, describe, expect, test } from 'vitest'
import { createCpuBackend } from '#core/backend/cpu.ts'
import { createReferenceBackend } from '#core/backend/reference.ts'
import { opCases, uncoveredOps } from './cases.ts'
import { inferenceCases } from './inference-cases.ts'
import { relativeError, runCase } from './run-case.ts'

const reference = createReferenceBackend()
const backends = [createCpuBackend({ threads: 2 })]

afterAll(async () => {
  for (const backend of backends) await backend.close()
})

test('every op has a case', () => {
  expect(uncoveredOps([...opCases, ...inferenceCases])).toEqual([])
})

describe.each(backends.map((backend) => ({ name: backend.name, backend })))('$name', ({ backend }) => {
  test.each([...opCases, ...inferenceCases].map((opCase) => ({ title: `${opCase.op}: ${opCase.label}`, opCase })))('$title', async ({ opCase }) => {
    const expected = await runCase(reference, opCase)
    const found = await runCase(backend, opCase)
    for (const [name, values] of Object.entries(expected)) {
      const error = relativeError(found[name]!, values)
      expect(error, `${opCase.op} ${opCase.label}: ${name} differs by ${error} of its largest value`).toBeLessThanOrEqual(opCase.tolerance)
    }
  })
})
