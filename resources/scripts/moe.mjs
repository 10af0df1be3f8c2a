/**
 * `npm run moe -- <command>`: the command line of the workbench. Only what the CLI itself needs is made ready, and only
 * stderr is used for that: stdout carries the command's own output, which scripts read.
 */
import { join } from 'node:path'
import { isNewNode, productNode, root, runInForeground, runScript } from './process.mjs'
import { ensure } from './setup.mjs'

const cli = join(root, 'core/cli.ts')

await runScript(async (args) => {
  await ensure({ modules: true, native: true })
  if (!isNewNode()) return runInForeground(productNode(), [cli, ...args])
  process.argv = [process.execPath, cli, ...args]
  await import('#core/cli.ts')
  return process.exitCode
})
