/**
 * `npm start`: makes everything ready and opens the workbench, in an Electron window where one can be had, else served on
 * loopback to the browser, with one line that says why. Arguments are handed on (`npm start -- --port 8080 --no-open`);
 * `--serve` asks for the served workbench even where a window could be shown.
 */
import { join } from 'node:path'
import { obtainElectron, whyNoWindow } from './electron.mjs'
import { productNode, root, runInForeground, runScript, say } from './process.mjs'
import { ensure } from './setup.mjs'

/** A window that is gone within this time with an error never came up. */
const startUpMs = 5_000

async function openWindow(args) {
  const { file, reason } = await obtainElectron()
  if (!file) return { reason }
  const started = performance.now()
  const exitCode = await runInForeground(file, [root, ...args])
  const neverCameUp = exitCode !== 0 && performance.now() - started < startUpMs
  return neverCameUp ? { reason: `Electron ended at once with code ${exitCode}` } : { exitCode }
}

await runScript(async (args) => {
  await ensure({ modules: true, native: true, sample: true, renderer: true })
  const serveArgs = args.filter((arg) => arg !== '--serve')
  const noWindow = serveArgs.length < args.length ? 'it was asked for with --serve' : whyNoWindow()
  const { exitCode, reason } = noWindow ? { reason: noWindow } : await openWindow(args)
  if (exitCode !== undefined) return exitCode
  say(`No Electron window (${reason}): the same workbench is served to the browser.`)
  return runInForeground(productNode(), [join(root, 'core/cli.ts'), 'serve', ...serveArgs])
})
