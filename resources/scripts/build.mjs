/**
 * `npm run build`: the page and the desktop shell into out/, whatever their stamps say.
 */
import { runInForeground, productNode, root, runScript } from './process.mjs'
import { join } from 'node:path'
import { ensure } from './setup.mjs'

await runScript(async (args) => {
  await ensure({ modules: true })
  return runInForeground(productNode(), [join(root, 'node_modules/electron-vite/bin/electron-vite.js'), 'build', ...args])
})
