/**
 * The counts that close a test run, taken from a real run of vitest over one file of each fate.
 */
import { execFile } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { closingLine, countReport } from '#resources/scripts/report.mjs'

const modules = resolve(import.meta.dirname, '../../node_modules')
const folder = mkdtempSync(join(tmpdir(), 'moe-report-'))

const files: Record<string, string> = {
  'pass.test.js': "import { test } from 'vitest'; test('a', () => {}); test('b', () => {})",
  'fail.test.js': "import { expect, test } from 'vitest'; test('wrong', () => expect(1).toBe(2)); test('right', () => {})",
  'skip.test.js': "import { test } from 'vitest'; test.skip('needs a window', () => {}); test.todo('later')",
  'broken.test.js': "import './missing.js'",
  'empty.test.js': '',
  'outside.test.js': "import { test } from 'vitest'; test('fine', () => { setTimeout(() => { throw new Error('late') }) ; return new Promise((done) => setTimeout(done, 50)) })",
}

/** Runs vitest over `names` and returns its report and exit code. */
function runVitest(names: string[]): Promise<{ report: Parameters<typeof countReport>[0]; exitCode: number }> {
  const output = join(folder, 'report.json')
  const args = [join(modules, 'vitest/vitest.mjs'), 'run', '--root', folder, '--reporter=json', `--outputFile=${output}`, ...names]
  return new Promise((fulfil) => {
    execFile(process.execPath, args, { cwd: folder, env: { ...process.env, VITEST: '' } }, (error) => {
      fulfil({ report: JSON.parse(readFileSync(output, 'utf8')), exitCode: error === null ? 0 : 1 })
    })
  })
}

beforeAll(() => {
  mkdirSync(folder, { recursive: true })
  symlinkSync(modules, join(folder, 'node_modules'), 'junction')
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('passed, failed, skipped and broken files are all counted', async () => {
  const { report, exitCode } = await runVitest(['pass', 'fail', 'skip', 'broken', 'empty'])
  const { passed, failed, skipped } = countReport(report, exitCode)
  expect({ passed, failed, skipped: skipped.map(({ fullName }) => fullName) }).toEqual({ passed: 3, failed: 3, skipped: ['needs a window', 'later'] })
})

test('an error that no test saw is a failure', async () => {
  const { report, exitCode } = await runVitest(['outside'])
  expect(countReport(report, exitCode)).toEqual({ passed: 1, failed: 1, skipped: [] })
})

test('all passing is no failure', async () => {
  const { report, exitCode } = await runVitest(['pass'])
  expect(countReport(report, exitCode)).toEqual({ passed: 2, failed: 0, skipped: [] })
})

test('the closing line', () => {
  expect(closingLine({ passed: 12, failed: 0, skipped: 0 })).toBe('12 passed, 0 failed')
  expect(closingLine({ passed: 12, failed: 1, skipped: 2 })).toBe('12 passed, 1 failed, 2 skipped')
})
