/**
 * Whether an Electron window can be had on this machine. The binary is not in the npm package: its own install script
 * fetches it, which many networks refuse. That is tried once, briefly, and a refusal is remembered for that version.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { productNode, root, runQuietly, say } from './process.mjs'
import { setupFolder } from './stamp.mjs'

const executables = { darwin: 'Electron.app/Contents/MacOS/Electron', win32: 'electron.exe' }
const fetchTimeoutMs = 90_000

/** Electron's executable if it is on this machine: in ELECTRON_OVERRIDE_DIST_PATH, or where npm puts it. */
export function findElectron() {
  const folder = process.env.ELECTRON_OVERRIDE_DIST_PATH || join(root, 'node_modules/electron/dist')
  const file = join(folder, executables[process.platform] ?? 'electron')
  return existsSync(file) ? file : undefined
}

/** Why no window can be shown here at all, whatever the binary; undefined when one can. */
export function whyNoWindow() {
  if (process.platform !== 'linux') return undefined
  if (!process.env.DISPLAY && !process.env.WAYLAND_DISPLAY) return 'there is no display'
  if (process.getuid() === 0) return "Electron's sandbox does not run as root"
  return undefined
}

/** Electron's executable, fetched once if it must be; or the reason why it is not to be had. */
export async function obtainElectron() {
  const found = findElectron()
  if (found) return { file: found }
  const { version } = createRequire(import.meta.url)(join(root, 'node_modules/electron/package.json'))
  const refusal = join(setupFolder, 'electron-refused')
  const wasRefused = existsSync(refusal) && readFileSync(refusal, 'utf8') === version
  if (!wasRefused) {
    say(`Fetching Electron ${version} (tried once, at most ${fetchTimeoutMs / 1000} s) …`)
    try {
      await runQuietly(productNode(), [join(root, 'node_modules/electron/install.js')], { timeoutMs: fetchTimeoutMs })
      rmSync(refusal, { force: true })
    } catch {
      writeFileSync(refusal, version)
    }
  }
  const file = findElectron()
  return file ? { file } : { reason: 'its binary could not be downloaded ("npx install-electron" tries again)' }
}
