/**
 * The Chromium that the UI tests drive: found on the machine, or installed by the system's package manager where that
 * needs no question. It is never downloaded from anywhere else.
 */
import { existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { runQuietly, SetupError } from './process.mjs'

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'microsoft-edge']

const applications = {
  darwin: [
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
    '/Applications/Chromium.app/Contents/MacOS/Chromium',
    '/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge',
  ],
  win32: ['PROGRAMFILES', 'PROGRAMFILES(X86)', 'LOCALAPPDATA'].flatMap((variable) =>
    ['Google\\Chrome\\Application\\chrome.exe', 'Microsoft\\Edge\\Application\\msedge.exe'].map((file) => join(process.env[variable] ?? '', file)),
  ),
}

/** The program `name` on the PATH; undefined when there is none. */
export function findOnPath(name) {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(Boolean)
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file))
}

/** The Chromium (or Chrome, or Edge) of this machine; CHROMIUM_PATH wins. Undefined when there is none. */
export function findChromium() {
  const chosen = process.env.CHROMIUM_PATH
  if (chosen) {
    if (existsSync(chosen)) return chosen
    throw new SetupError(`CHROMIUM_PATH names ${chosen}, and there is no such file.`, 'Correct it or unset it.')
  }
  const installed = process.platform === 'win32' ? [] : names.map(findOnPath)
  return [...installed, ...(applications[process.platform] ?? [])].find((file) => file && existsSync(file))
}

/** Installs Debian's Chromium and a small font for the Chinese pages. Throws SetupError, with what to do by hand, wherever that cannot be done unasked. */
export async function installChromium() {
  const mayInstall = process.platform === 'linux' && process.getuid?.() === 0 && findOnPath('apt-get')
  const byHand = {
    linux: 'Install it ("sudo apt-get install chromium", "sudo dnf install chromium", …)',
    darwin: 'Install it ("brew install --cask chromium")',
    win32: 'Install Chrome or Edge',
  }
  const hint = `${byHand[process.platform] ?? 'Install it'}, or set CHROMIUM_PATH to a Chromium, Chrome or Edge you have.`
  if (!mayInstall) throw new SetupError('The UI tests need a Chromium and this machine has none.', hint)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  try {
    await runQuietly('apt-get', ['update', '-q'], { env, timeoutMs: 180_000 })
    await runQuietly('apt-get', ['install', '-q', '-y', '--no-install-recommends', 'chromium', 'fonts-wqy-microhei'], { env, timeoutMs: 600_000 })
  } catch (error) {
    throw new SetupError(`The UI tests need a Chromium, and apt-get could not install it.\n${error.message}`, hint)
  }
}
