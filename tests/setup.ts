/**
 * Runs before every test file: turns warnings that no test announced into failures. The text still reaches the
 * terminal, so that the failure can be read where it happened.
 */
import { format } from 'node:util'
import { afterAll, afterEach, beforeEach, expect } from 'vitest'
import { recordWarning, takeUnexpectedWarnings } from './console.ts'

for (const level of ['warn', 'error'] as const) {
  const print = console[level].bind(console)
  console[level] = (...values: unknown[]): void => {
    recordWarning(format(...values))
    print(...values)
  }
}

process.on('warning', (warning) => recordWarning(`${warning.name}: ${warning.message}`))

beforeEach(() => {
  expect(takeUnexpectedWarnings(), 'warnings printed before this test (while loading, or by a test that had ended)').toEqual([])
})

afterEach(() => {
  expect(takeUnexpectedWarnings(), 'warnings that this test did not announce with expectWarning()').toEqual([])
})

afterAll(() => {
  expect(takeUnexpectedWarnings(), 'warnings printed after the last test').toEqual([])
})
