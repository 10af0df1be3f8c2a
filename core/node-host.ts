/**
 * The host for everything that runs on Node: the server, the command line, tests, and Electron's utility process. Runners
 * are forked Node processes; they speak over the IPC channel, and what they print on stderr is kept for the log.
 */
import { fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { openLogFile } from './log-file.ts'
import type { Host, RunnerHandle } from './shared/host.ts'
import type { FromRunner } from './shared/jobs.ts'

const coreFolder = fileURLToPath(new URL('.', import.meta.url))
/** Where the product lies: its resources and its built page are in here. */
export const productFolder = resolve(coreFolder, '..')

export type NodeHostOptions = {
  kind: Host['kind']
  /** Default: defaultLibraryPath(). */
  libraryPath?: string
  resourcesPath?: string
  /** The script a runner is; the bundled app has its own. */
  runnerPath?: string
  version?: string
  log?: Host['log']
}

/** A host of this process. Its log goes to `logs/core.log` in the library unless `log` is given. */
export function nodeHost(options: NodeHostOptions): Host {
  const libraryPath = resolve(options.libraryPath ?? defaultLibraryPath())
  const runnerPath = options.runnerPath ?? join(coreFolder, 'runner.ts')
  return {
    kind: options.kind,
    version: options.version ?? ownVersion(),
    libraryPath,
    resourcesPath: options.resourcesPath ?? join(productFolder, 'resources'),
    now: () => Date.now(),
    newId: () => randomBytes(8).toString('hex'),
    log: options.log ?? openLogFile(join(libraryPath, 'logs', 'core.log')),
    startRunner: () => startRunner(runnerPath),
  }
}

/** The user's library: MOE_LIBRARY, or the place for application data of the system. */
export function defaultLibraryPath(): string {
  const { MOE_LIBRARY, XDG_DATA_HOME, APPDATA } = process.env
  if (MOE_LIBRARY) return resolve(MOE_LIBRARY)
  const home = homedir()
  switch (process.platform) {
    case 'darwin':
      return join(home, 'Library', 'Application Support', 'MoE Workbench')
    case 'win32':
      return join(APPDATA ?? join(home, 'AppData', 'Roaming'), 'MoE Workbench')
    default:
      return join(XDG_DATA_HOME ?? join(home, '.local', 'share'), 'moe-workbench')
  }
}

function ownVersion(): string {
  return (JSON.parse(readFileSync(join(productFolder, 'package.json'), 'utf8')) as { version: string }).version
}

function startRunner(runnerPath: string): RunnerHandle {
  const child = fork(runnerPath, [], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
    // A plain Node process under Electron too; without the flags (a debugger's port, say) that this one was started with.
    execArgv: [],
    env: process.versions.electron === undefined ? process.env : { ...process.env, ELECTRON_RUN_AS_NODE: '1' },
  })
  if (child.pid === undefined) {
    child.on('error', () => undefined)
    throw new Error(`${process.execPath} ${runnerPath} could not be started`)
  }
  const lines = createInterface({ input: child.stderr! })
  return {
    pid: child.pid,
    send(message) {
      if (child.connected) child.send(message, () => undefined)
    },
    onMessage: (listener) => void child.on('message', (message) => listener(message as FromRunner)),
    onStderr: (listener) => void lines.on('line', listener),
    onExit: (listener) => whenGone(child, listener),
    kill: () => void child.kill('SIGKILL'),
  }
}

/** Calls back when the process has exited and all that it said has been heard: its channel and its stderr are at their end. */
function whenGone(child: ReturnType<typeof fork>, listener: (how: number | string) => void): void {
  const heard = [new Promise((resolve) => child.once('disconnect', resolve)), new Promise((resolve) => child.stderr!.once('close', resolve))]
  child.once('exit', (code, signal) => {
    // A grandchild may hold stderr open: what is said after the process is gone is waited for only so long.
    const bound = new Promise((resolve) => setTimeout(resolve, 1000).unref())
    void Promise.race([Promise.all(heard), bound]).then(() => listener(code ?? signal ?? 'unknown'))
  })
}
