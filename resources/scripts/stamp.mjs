/**
 * Remembers what has been done, so that it is not done twice. A stamp of a step is the fingerprint of its inputs: first
 * their sizes and times (cheap, looked at on every command), and only when those differ their contents, so that a fresh
 * checkout of the same files is still current. One lock keeps two commands from doing the same step at once.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { root, say, SetupError } from './process.mjs'

/** Where stamps and the lock live; never under version control. */
export const setupFolder = join(root, '.setup')

const heartbeatMs = 2_000
const staleMs = 30_000

/** What steps produce inside the folders that are their inputs. */
const products = ['native/build', 'resources/sample/data', 'resources/sample/cache'].map((path) => join(root, path))

function listFiles(path) {
  if (!existsSync(path) || products.includes(path)) return []
  if (!statSync(path).isDirectory()) return [path]
  return readdirSync(path).flatMap((name) => listFiles(join(path, name)))
}

function digest(lines) {
  const hash = createHash('sha256')
  for (const line of lines) hash.update(line).update('\0')
  return hash.digest('hex')
}

/** The state of `paths` (files or folders under the root): `times` is quick to know, `contents` is what counts. */
function fingerprint(paths, salt) {
  const files = paths.flatMap((path) => listFiles(join(root, path)))
  const times = digest([salt, ...files.map((file) => { const { size, mtimeMs } = statSync(file); return `${file} ${size} ${mtimeMs}` })])
  return { times, contents: () => digest([salt, ...files.flatMap((file) => [relative(root, file), readFileSync(file)])]) }
}

/** A stamp named `name` over `paths`; `salt` is whatever else the result depends on (such as the Node version). */
export function stampOf(name, paths, salt = '') {
  const file = join(setupFolder, `${name}.json`)
  const read = () => { try { return JSON.parse(readFileSync(file, 'utf8')) } catch { return undefined } }
  const write = (times, contents) => {
    mkdirSync(setupFolder, { recursive: true })
    writeFileSync(`${file}.${process.pid}`, JSON.stringify({ times, contents }))
    renameSync(`${file}.${process.pid}`, file)
  }
  return {
    /** Whether the step was done for exactly the present inputs. */
    isCurrent() {
      const stamp = read()
      if (!stamp) return false
      const now = fingerprint(paths, salt)
      if (stamp.times === now.times) return true
      const contents = now.contents()
      if (stamp.contents !== contents) return false
      write(now.times, contents)
      return true
    },
    /** The present inputs; call before the step, so that a file edited while it runs makes the stamp stale. */
    take() {
      const now = fingerprint(paths, salt)
      const contents = now.contents()
      return { set: () => write(now.times, contents) }
    },
  }
}

function holderOf(lock) {
  try {
    return { pid: Number(readFileSync(lock, 'utf8')), ageMs: Date.now() - statSync(lock).mtimeMs }
  } catch {
    return undefined
  }
}

function isAlive(pid) {
  try { process.kill(pid, 0); return true } catch (error) { return error.code === 'EPERM' }
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms))

async function acquire(lock) {
  for (let waited = false; ; ) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' })
      await pause(20)
      if (holderOf(lock)?.pid === process.pid) return
    } catch (error) {
      if (error.code !== 'EEXIST') throw new SetupError(`Cannot write ${lock}: ${error.message}`, 'The checkout must be writable.')
    }
    const holder = holderOf(lock)
    // A lock whose owner was killed keeps nobody out; a process id can be reused, so its heartbeat counts too.
    if (holder && (holder.ageMs > staleMs || (holder.pid && !isAlive(holder.pid)))) rmSync(lock, { force: true })
    else if (holder && !waited) { say(`Waiting for another command (process ${holder.pid}) to finish setting up …`); waited = true }
    await pause(200)
  }
}

/** Runs `body` while no other command of this checkout sets anything up. */
export async function underLock(body) {
  mkdirSync(setupFolder, { recursive: true })
  const lock = join(setupFolder, 'lock')
  await acquire(lock)
  const heartbeat = setInterval(() => { try { const now = new Date(); utimesSync(lock, now, now) } catch { /* taken away: nothing to keep alive */ } }, heartbeatMs)
  const release = () => rmSync(lock, { force: true })
  process.once('exit', release)
  try {
    return await body()
  } finally {
    clearInterval(heartbeat)
    process.off('exit', release)
    release()
  }
}
