/**
 * Makes a checkout ready: packages, the C++ addon, the sample texts, the built page, a Chromium for the tests. Each step
 * is done once for the same inputs and says what it does and how long it took. Nothing here downloads a prebuilt binary:
 * packages are installed without their scripts, the addon is compiled, and Electron is start.mjs's business.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { findChromium, installChromium } from './browser.mjs'
import { nodePackage, productNode, root, runQuietly, say, SetupError } from './process.mjs'
import { stampOf, underLock } from './stamp.mjs'
import { findSoftwareGpus, installSoftwareGpus } from './vulkan.mjs'

const compilerHints = {
  linux: 'The addon is C++ and needs a compiler, make and Python 3: "sudo apt-get install build-essential python3" (or your distribution\'s equal).',
  darwin: 'The addon is C++ and needs Apple\'s command line tools: "xcode-select --install".',
  win32: 'The addon is C++ and needs the Visual Studio Build Tools with "Desktop development with C++", and Python 3.',
}

const readJson = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'))

/** Whether node_modules holds every package of the lock in its version; packages for other platforms may be absent. */
export function modulesAreCurrent() {
  const installedList = 'node_modules/.package-lock.json'
  if (!existsSync(join(root, installedList))) return false
  const installed = readJson(installedList).packages
  const locked = Object.entries(readJson('package-lock.json').packages).filter(([path]) => path !== '')
  return locked.every(([path, wanted]) => (installed[path] ? installed[path].version === wanted.version : Boolean(wanted.optional || wanted.devOptional || wanted.peer)))
}

async function npm(...args) {
  const cli = process.env.npm_execpath
  const env = { ...process.env, NODE_ENV: 'development' }
  return cli?.endsWith('npm-cli.js')
    ? runQuietly(process.env.npm_node_execpath ?? process.execPath, [cli, ...args], { env })
    : runQuietly('npm', args, { env, shell: process.platform === 'win32' })
}

async function installModules() {
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--include=dev', '--include=optional']
  try {
    await npm('ci', ...options)
  } catch (error) {
    // A lock written on another platform can lack this one's entries, and Windows cannot delete a Node that runs.
    if (!/EUSAGE|EBADPLATFORM|EPERM|EBUSY/.test(error.output ?? '')) {
      throw new SetupError(`The packages could not be installed.\n${error.message}`, 'A connection to an npm registry is needed, the first time. Then run the same command again.')
    }
    say('  npm ci does not take this lock here; trying npm install …')
    await npm('install', '--no-save', ...options)
  }
}

/** Where node-gyp finds Node's headers without asking the network; undefined lets it fetch them. */
function headersFolder() {
  if (process.platform === 'win32') return undefined
  const beside = dirname(dirname(productNode()))
  return [nodePackage(), beside].find((folder) => folder && existsSync(join(folder, 'include/node/node_api.h')))
}

async function buildNative() {
  const headers = headersFolder()
  // A user's npm settings may name other headers, and node-gyp lets them win over its own arguments.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_(package_)?config_(node_gyp_)?nodedir$/i.test(name)))
  const args = ['rebuild', '--directory', 'native', '--jobs', 'max', ...(headers ? [`--nodedir=${headers}`] : [])]
  try {
    await runQuietly(productNode(), [join(root, 'node_modules/node-gyp/bin/node-gyp.js'), ...args], { env })
  } catch (error) {
    throw new SetupError(`The addon could not be compiled.\n${error.message}`, compilerHints[process.platform] ?? compilerHints.linux)
  }
}

async function fetchSample() {
  await runQuietly(productNode(), [join(root, 'resources/sample/fetch.ts')], { timeoutMs: 600_000 })
}

/** Builds what the window shows and the desktop shell into out/. */
export async function buildApp() {
  await runQuietly(productNode(), [join(root, 'node_modules/electron-vite/bin/electron-vite.js'), 'build'], { timeoutMs: 600_000 })
}

/**
 * Every step by name: what it says, whether it is done, and how it is done. `optional` steps are said to have failed and
 * are tried again next time; the others end the command.
 */
const steps = {
  modules: {
    title: 'Installing packages (a minute or so, once)',
    sources: ['package-lock.json'],
    output: 'node_modules/.package-lock.json',
    isDone: modulesAreCurrent,
    run: installModules,
  },
  native: {
    title: 'Compiling the CPU kernels',
    sources: ['native/binding.gyp', 'native/cpu'],
    output: 'native/build/Release/moe.node',
    run: buildNative,
  },
  sample: {
    title: 'Fetching the sample texts',
    sources: ['resources/sample'],
    output: 'resources/sample/data/sample.json',
    optional: 'The workbench starts without them; the quick start will ask for them again.',
    run: fetchSample,
  },
  renderer: {
    title: 'Building the workbench',
    sources: ['renderer', 'core', 'electron', 'native/index.ts', 'electron.vite.config.ts', 'package-lock.json'],
    output: 'out/renderer/index.html',
    run: buildApp,
  },
}

async function perform(name, step) {
  const stamp = stampOf(name, step.sources, `${process.platform} ${process.arch}`)
  const inputs = stamp.take()
  if (step.isDone?.()) return inputs.set()
  const started = performance.now()
  say(`${step.title} …`)
  try {
    await step.run()
  } catch (error) {
    if (!step.optional) throw error
    return say(`  failed: ${error.message}\n  ${step.optional}`)
  }
  inputs.set()
  say(`  done in ${((performance.now() - started) / 1000).toFixed(1)} s`)
}

function isCurrent(name) {
  const step = steps[name]
  return existsSync(join(root, step.output)) && stampOf(name, step.sources, `${process.platform} ${process.arch}`).isCurrent()
}

/**
 * Does the steps asked for that are not current, in order, under one lock. `chromium` and `gpus` resolve even when none can be
 * had: the tests that need them say so. Throws SetupError with what to do.
 */
export async function ensure({ modules = false, native = false, sample = false, renderer = false, chromium = false, gpus = false }) {
  const wanted = Object.entries({ modules, native, sample, renderer }).filter(([, want]) => want).map(([name]) => name)
  if (!wanted.every(isCurrent)) {
    await underLock(async () => {
      for (const name of wanted) if (!isCurrent(name)) await perform(name, steps[name])
    })
  }
  if (chromium && !findChromium()) {
    say('Installing Chromium for the UI tests …')
    await underLock(async () => {
      if (findChromium()) return
      try { await installChromium() } catch (error) { say(`  ${error.message}\n  ${error.hint}`) }
    })
  }
  if (gpus && !(findSoftwareGpus().swiftshader && findSoftwareGpus().lavapipe)) {
    say('Setting up software GPUs for the tests …')
    await underLock(async () => {
      try { await installSoftwareGpus() } catch (error) { say(`  not all of them: ${error.message}`) }
    })
  }
}
