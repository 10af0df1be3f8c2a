/**
 * What a test run amounts to. Apart from test.mjs so that it is tested: a miscount here would hide every other failure.
 */
import { relative } from 'node:path'
import { root } from './process.mjs'

/**
 * Counts a report of vitest's JSON reporter: `{passed, failed, skipped}`, `skipped` with the file and name of each. A file
 * that fails to load, and an error outside any test (only `exitCode` tells), count as one failure each.
 * @param {{testResults: any[]}} report
 * @param {number} exitCode
 * @returns {{passed: number, failed: number, skipped: {file: string, fullName: string}[]}}
 */
export function countReport(report, exitCode) {
  const files = report.testResults
  const tests = files.flatMap((file) => file.assertionResults.map((test) => ({ ...test, file: relative(root, file.name) })))
  const broken = files.filter((file) => file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'))
  const passed = tests.filter((test) => test.status === 'passed').length
  const failed = tests.filter((test) => test.status === 'failed').length + broken.length
  const skipped = tests.filter((test) => test.status !== 'passed' && test.status !== 'failed')
  const outside = exitCode !== 0 && failed === 0 ? 1 : 0
  return { passed, failed: failed + outside, skipped }
}

/** The line a test run ends with. */
export function closingLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped === 0 ? '' : `, ${skipped} skipped`}`
}
