/**
 * `npm run package`: installers of this system into dist/ (electron-builder.yml says which). Needs Electron's binary,
 * which electron-builder fetches itself. `npm run package -- --mac --arm64` and so on are handed on.
 */
import { join } from 'node:path'
import { productNode, root, runInForeground, runScript } from './process.mjs'
import { ensure } from './setup.mjs'

await runScript(async (args) => {
  await ensure({ modules: true, native: true, sample: true, renderer: true })
  return runInForeground(productNode(), [join(root, 'node_modules/electron-builder/cli.js'), '--publish', 'never', ...args])
})
