/**
 * Running other programs, and the Node that everything runs in. Plain JavaScript that works on Node 20.19 with nothing
 * installed, because these scripts are what installs. What they say goes to stderr: stdout belongs to the command.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { join, resolve } from 'node:path'

/** The root of the checkout. */
export const root = resolve(import.meta.dirname, '../..')

// Tools that colour what nobody will see make logs unreadable.
if (!process.stderr.isTTY && !process.env.FORCE_COLOR) process.env.NO_COLOR ??= '1'

/** The first Node whose type stripping, Node-API and zstd the product relies on. */
const requiredNodeMajor = 24

/** A failure of set-up that a person can do something about; `hint` says what. */
export class SetupError extends Error {
  constructor(message, hint = '') {
    super(message)
    this.name = 'SetupError'
    this.hint = hint
  }
}

/** Says something to the person at the terminal. */
export function say(text) {
  process.stderr.write(`${text}\n`)
}

/** The folder of the npm package that carries Node and its headers for this machine; undefined where there is none. */
export function nodePackage() {
  const platform = process.platform === 'win32' ? 'win' : process.platform
  const folder = join(root, 'node_modules', `node-${platform}-${process.arch}`)
  return existsSync(folder) ? folder : undefined
}

/** Whether this very process is a Node new enough to run the product. */
export function isNewNode() {
  return Number(process.versions.node.split('.')[0]) >= requiredNodeMajor
}

/** The Node executable that runs the product. Throws SetupError where neither the system nor npm has one. */
export function productNode() {
  if (isNewNode()) return process.execPath
  const folder = nodePackage()
  const file = folder && join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (file && existsSync(file)) return file
  throw new SetupError(
    `The workbench needs Node ${requiredNodeMajor} and this is Node ${process.versions.node}.`,
    process.platform === 'darwin'
      ? `npm carries no Node for macOS. Install it, for example with "brew install node@${requiredNodeMajor}", and run the command again.`
      : `npm carries it for Linux and Windows, but the package is missing here: run "npm ci --include=optional", or install Node ${requiredNodeMajor} yourself.`,
  )
}

/**
 * Runs a program with its output hidden, and resolves with that output. Rejects with SetupError when it fails, with the
 * end of what it printed, or when `timeoutMs` has passed (the program is then killed).
 */
export function runQuietly(program, args, { cwd = root, env = process.env, timeoutMs = 0, shell = false } = {}) {
  return new Promise((fulfil, reject) => {
    const child = spawn(program, args, { cwd, env, shell, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    let timedOut = false
    const timer = timeoutMs && setTimeout(() => { timedOut = true; child.kill('SIGKILL') }, timeoutMs)
    const collect = (chunk) => { output = (output + chunk).slice(-200_000) }
    child.stdout.on('data', collect)
    child.stderr.on('data', collect)
    child.on('error', (error) => { clearTimeout(timer); reject(new SetupError(`${program}: ${error.message}`)) })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      if (code === 0) return fulfil(output)
      const how = timedOut ? `gave no result within ${timeoutMs / 1000} s` : signal ? `was ended by ${signal}` : `ended with code ${code}`
      const error = new SetupError(`${program} ${args.join(' ')} ${how}.\n${output.trimEnd().split('\n').slice(-30).join('\n')}`)
      error.output = output
      reject(error)
    })
  })
}

/**
 * Runs a program on this terminal and resolves with its exit code (128 + signal when a signal ended it). Ctrl-C reaches
 * the program by itself; signals sent to this process alone are handed on, and this process outlives the program.
 */
export function runInForeground(program, args, { cwd = root, env = process.env, stdio = 'inherit' } = {}) {
  return new Promise((fulfil, reject) => {
    const child = spawn(program, args, { cwd, env, stdio })
    const onInterrupt = () => { if (!process.stdin.isTTY) child.kill('SIGINT') }
    const onTerminate = () => child.kill('SIGTERM')
    process.on('SIGINT', onInterrupt).on('SIGTERM', onTerminate).on('SIGHUP', onTerminate)
    const release = () => process.off('SIGINT', onInterrupt).off('SIGTERM', onTerminate).off('SIGHUP', onTerminate)
    child.on('error', (error) => { release(); reject(new SetupError(`${program}: ${error.message}`)) })
    child.on('close', (code, signal) => { release(); fulfil(code ?? 128 + constants.signals[signal]) })
  })
}

/** Runs a script's body: its resolved number is the exit code, a SetupError is worded for people, a bug keeps its stack. */
export async function runScript(body) {
  try {
    process.exitCode = (await body(process.argv.slice(2))) ?? 0
  } catch (error) {
    say(error instanceof SetupError ? `error: ${error.message}${error.hint && `\n\n${error.hint}`}` : error.stack)
    process.exitCode = 1
  }
}
