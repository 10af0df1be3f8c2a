/**
 * `npm test`: installs what is missing, runs the checks and every test, and ends with one line of counts.
 * `npm test -- tests/ops` runs only the tests whose path contains that. A skipped test is listed with its reason, so
 * that nobody mistakes it for a passed one.
 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { runChecks } from './check.mjs'
import { productNode, root, runInForeground, runScript, say } from './process.mjs'
import { closingLine, countReport } from './report.mjs'
import { ensure } from './setup.mjs'

const reportFile = join(root, 'tests/.output/vitest.json')

async function runTests(args) {
  rmSync(reportFile, { force: true })
  mkdirSync(dirname(reportFile), { recursive: true })
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`]
  const exitCode = await runInForeground(productNode(), [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...reporters, ...args])
  try {
    return countReport(JSON.parse(readFileSync(reportFile, 'utf8')), exitCode)
  } catch (error) {
    say(`vitest left no readable report (${error.message})`)
    return { passed: 0, failed: 1, skipped: [] }
  }
}

await runScript(async (args) => {
  const filters = args.filter((arg) => !arg.startsWith('-'))
  const isFiltered = filters.length > 0
  const drivesPages = !isFiltered || filters.some((filter) => /e2e|electron/.test(filter))
  const usesGpus = !isFiltered || filters.some((filter) => /gpu|ops|model/.test(filter))
  // Chromium brings one of the software GPUs.
  await ensure({ modules: true, native: true, sample: true, renderer: drivesPages, chromium: drivesPages || usesGpus, gpus: usesGpus })
  const checks = isFiltered ? { passed: 0, failed: 0 } : await runChecks({ withImports: false })
  const tests = await runTests(args)
  for (const test of tests.skipped) say(`SKIPPED ${test.file}: ${test.fullName}`)
  const failed = checks.failed + tests.failed
  process.stdout.write(`${closingLine({ passed: checks.passed + tests.passed, failed, skipped: tests.skipped.length })}\n`)
  return failed === 0 ? 0 : 1
})
