/**
 * `npm run bench`: the benchmark tables, in the Node that the product runs in, with the addon freshly compiled. Arguments
 * are handed on (`npm run bench -- ops`).
 */
import { join } from 'node:path'
import { productNode, root, runInForeground, runScript } from './process.mjs'
import { ensure } from './setup.mjs'

await runScript(async (args) => {
  await ensure({ modules: true, native: true, sample: true })
  return runInForeground(productNode(), [join(root, 'tests/bench/main.ts'), ...args])
})
