/**
 * `npm run check`: types of each environment, lint, and the table of imports. Two at a time, slowest first; what a step
 * prints is shown only when it fails.
 */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { productNode, root, runQuietly, runScript, say } from './process.mjs'
import { ensure } from './setup.mjs'

const tool = (path) => join(root, 'node_modules', path)
const types = (environment, compiler = 'typescript/bin/tsc') => ({
  name: `types: ${environment}`,
  args: [tool(compiler), '--project', `tsconfig.${environment}.json`],
})

const steps = [
  { name: 'lint', args: [tool('eslint/bin/eslint.js'), '--max-warnings=0', '--cache', '--cache-location', '.setup/eslint', '--cache-strategy', 'content', '.'] },
  types('dom', 'vue-tsc/bin/vue-tsc.js'),
  types('node'),
  types('electron'),
  types('e2e'),
  types('pure'),
]
const imports = { name: 'import table', args: [tool('vitest/vitest.mjs'), 'run', '--project', 'unit', 'tests/structure'] }

/** Runs the checks and resolves with `{passed, failed}`, saying each one's result. `withImports: false` leaves the import table to a test run that has it anyway. */
export async function runChecks({ withImports = true } = {}) {
  const queue = withImports ? [...steps, imports] : [...steps]
  const result = { passed: 0, failed: 0 }
  const work = async () => {
    for (let step = queue.shift(); step; step = queue.shift()) {
      const started = performance.now()
      const error = await runQuietly(productNode(), step.args).then(() => undefined, (failure) => failure)
      result[error ? 'failed' : 'passed'] += 1
      say(`${error ? '✗' : '✓'} ${step.name} (${((performance.now() - started) / 1000).toFixed(1)} s)`)
      if (error) say(`${error.output ?? error.message}`.trimEnd().replace(/^/gm, '    '))
    }
  }
  await Promise.all([work(), work()])
  return result
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await runScript(async () => {
    await ensure({ modules: true })
    const { passed, failed } = await runChecks()
    say(`${passed} passed, ${failed} failed`)
    return failed === 0 ? 0 : 1
  })
}
