/**
 * Downloads files so that they are whole or absent: into `<name>.part`, from where the last attempt ended (HTTP Range, guarded by the
 * server's ETag), hashed at the end, then renamed. A dropped connection is tried again; what cannot be helped by trying is said at once.
 * The token goes to the host it is for and to no other, redirects included.
 */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync, mkdirSync, openSync, closeSync, fsyncSync, readFileSync, renameSync, rmSync, statSync, writeFileSync, writeSync, ftruncateSync } from 'node:fs'
import { dirname } from 'node:path'
import { AppError } from '#core/shared/errors.ts'

export type Download = {
  url: string
  /** The file to make; it is not touched before all is there. */
  path: string
  /** Expected hex digest; null: whatever comes. */
  sha256: string | null
}
export type DownloadOptions = {
  token?: string | null
  /** Attempts in a row that bring no byte before it is given up. */
  attempts?: number
  retryMs?: number
  /** A connection that brings nothing for so long is dropped. */
  idleMs?: number
  signal?: AbortSignal
  onProgress?: (bytes: number, total: number | null) => void
}
export type Downloaded = { path: string; sizeBytes: number; sha256: string; requests: number }

const mostRedirects = 8

function failed(url: string, found: string, expected: string, hint: string, cause?: unknown): AppError {
  return new AppError('download.failed', `${url}: found ${found}, expected ${expected}`, { params: { url, found, expected }, hint, cause })
}

/** Follows redirects by hand, so that the token stays with its origin. */
async function request(url: string, headers: Record<string, string>, token: string | null, signal: AbortSignal): Promise<Response> {
  const origin = new URL(url).origin
  let at = url
  for (let i = 0; i < mostRedirects; i++) {
    const isOwn = new URL(at).origin === origin
    const response = await fetch(at, { headers: { ...headers, ...(token !== null && isOwn && { authorization: `Bearer ${token}` }) }, redirect: 'manual', signal })
    const location = response.headers.get('location')
    if (response.status < 300 || response.status >= 400 || response.status === 304 || location === null) return response
    await response.body?.cancel()
    at = new URL(location, at).href
  }
  throw failed(url, `more than ${mostRedirects} redirects`, 'a file', 'Check the address.')
}

/** Throws for what trying again does not help; true when the server may do better later. */
function requireUsable(url: string, status: number): boolean {
  if (status === 200 || status === 206 || status === 416) return true
  if (status === 401 || status === 403) throw failed(url, `HTTP ${status}`, 'a file that may be read', 'It needs a token, or another one; some data sets also need their terms to be accepted on their page.')
  if (status === 404 || status === 410) throw failed(url, `HTTP ${status}`, 'a file', 'Check the address, and the mirror if one is set.')
  if (status >= 400 && status < 500 && status !== 408 && status !== 429) throw failed(url, `HTTP ${status}`, 'a file', 'The server refuses this request; check the address.')
  return false
}

type State = { etag: string | null }
const readState = (path: string): State => (existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as State) : { etag: null })

/** One connection: appends what comes to the part file. True when the file is complete. */
async function attempt({ url, path }: Download, { token = null, idleMs = 60_000, signal, onProgress }: DownloadOptions): Promise<boolean> {
  const [part, stateFile] = [`${path}.part`, `${path}.part.json`]
  const state = readState(stateFile)
  let have = statSync(part, { throwIfNoEntry: false })?.size ?? 0
  const idle = new AbortController()
  let timer = setTimeout(() => idle.abort(), idleMs)
  const stop = signal ? AbortSignal.any([signal, idle.signal]) : idle.signal
  let file: number | null = null
  try {
    const isRange = have > 0 && state.etag !== null
    const response = await request(url, { 'accept-encoding': 'identity', ...(isRange && { range: `bytes=${have}-`, 'if-range': state.etag! }) }, token, stop)
    if (!requireUsable(url, response.status)) {
      await response.body?.cancel()
      return false
    }
    const range = /^bytes (?:(\d+)-\d+|\*)\/(\d+)$/.exec(response.headers.get('content-range') ?? '')
    if (response.status === 416) {
      await response.body?.cancel()
      if (range && Number(range[2]) === have) return true
      rmSync(part, { force: true })
      return false
    }
    const goesOn = response.status === 206 && range?.[1] !== undefined && Number(range[1]) === have
    if (!goesOn) have = 0
    const length = response.headers.get('content-length')
    const total = goesOn ? Number(range![2]) : length === null ? null : Number(length)
    const etag = response.headers.get('etag')
    writeFileSync(stateFile, JSON.stringify({ etag: etag?.startsWith('W/') ? null : etag } satisfies State))
    file = openSync(part, have > 0 ? 'r+' : 'w')
    ftruncateSync(file, have)
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      clearTimeout(timer)
      timer = setTimeout(() => idle.abort(), idleMs)
      for (let done = 0; done < chunk.length; ) done += writeSync(file, chunk, done, chunk.length - done, have + done)
      have += chunk.length
      onProgress?.(have, total)
    }
    fsyncSync(file)
    return total === null || have === total
  } catch (error) {
    signal?.throwIfAborted()
    if (error instanceof AppError) throw error
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOSPC') throw new AppError('disk.full', `the disk is full: ${path} was not written`, { params: { file: path }, hint: 'Free some space and try again; what has come is kept.', cause: error })
    if (code?.startsWith('E') && ['EACCES', 'EROFS', 'EPERM', 'ENOENT'].includes(code)) throw error
    return false
  } finally {
    clearTimeout(timer)
    if (file !== null) closeSync(file)
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** Makes `download.path`. Throws download.failed, download.wrongHash, disk.full, or the reason of an aborted signal; the part that came is kept, unless its hash is wrong. */
export async function downloadFile(download: Download, options: DownloadOptions = {}): Promise<Downloaded> {
  const { url, path, sha256 } = download
  const { attempts = 5, retryMs = 1000, signal } = options
  mkdirSync(dirname(path), { recursive: true })
  const part = `${path}.part`
  let [requests, fruitless] = [0, 0]
  for (;;) {
    signal?.throwIfAborted()
    const before = statSync(part, { throwIfNoEntry: false })?.size ?? 0
    requests++
    if (await attempt(download, options)) break
    const gained = (statSync(part, { throwIfNoEntry: false })?.size ?? 0) > before
    fruitless = gained ? 0 : fruitless + 1
    if (fruitless >= attempts) throw failed(url, `no answer that brings anything in ${attempts} attempts`, 'a file', 'Check the network connection and try again; what has come is kept.')
    await new Promise((resolve) => setTimeout(resolve, retryMs * 2 ** Math.min(fruitless, 5)))
  }
  const found = await hashOf(part)
  if (sha256 !== null && found !== sha256) {
    for (const file of [part, `${path}.part.json`]) rmSync(file, { force: true })
    throw new AppError('download.wrongHash', `${url}: found sha256 ${found}, expected ${sha256}`, { params: { url, found, expected: sha256 }, hint: 'The file was changed on the server or damaged on its way. Try again, or without the mirror.' })
  }
  renameSync(part, path)
  rmSync(`${path}.part.json`, { force: true })
  return { path, sizeBytes: statSync(path).size, sha256: found, requests }
}
