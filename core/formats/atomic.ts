/**
 * Writing so that a reader sees the old content or the new, never half: temp name, fsync, rename, fsync of the folder.
 * Temp names start with `.tmp-`, so that what a crash left behind can be told and removed.
 */
import { createHash, randomBytes } from 'node:crypto'
import { closeSync, constants, copyFileSync, createReadStream, fsyncSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, statSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'

export const temporaryPrefix = '.tmp-'

function temporaryPath(folder: string): string {
  return join(folder, `${temporaryPrefix}${randomBytes(6).toString('hex')}`)
}

/** Wraps what the file system refused: a full disk and missing permissions are the user's to solve, and say so. */
export function asDiskError(error: unknown, path: string): unknown {
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ENOSPC') return new AppError('disk.full', `the disk is full: ${path} was not written`, { params: { file: path }, hint: 'Free some space and try again; nothing that was there is lost.', cause: error })
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return new AppError('disk.denied', `${path} may not be written`, { params: { file: path }, hint: 'Check the permissions of its folder.', cause: error })
  }
  return error
}

/** Flushes a file's or folder's content to the disk (folders cannot be flushed on Windows, which needs no such thing). */
export function syncPath(path: string): void {
  if (process.platform === 'win32' && statSync(path).isDirectory()) return
  const file = openSync(path, 'r')
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

const pauseBytes = 8 << 20

export type WrittenFile = { sizeBytes: number; sha256: string }

/**
 * Writes `chunks` one after another as the new content of `path`; gives the size and hash of what was handed over, which a
 * reader can hold the disk against (sha256File). On any failure `path` is as it was.
 */
export async function writeFileAtomic(path: string, chunks: Iterable<Uint8Array | string> | AsyncIterable<Uint8Array | string>): Promise<WrittenFile> {
  const temporary = temporaryPath(dirname(path))
  const hash = createHash('sha256')
  let [sizeBytes, pausedAt] = [0, 0]
  let file: number | null = null
  try {
    file = openSync(temporary, 'wx')
    for await (const chunk of chunks) {
      const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
      hash.update(bytes)
      let written = 0
      while (written < bytes.length) written += writeSync(file, bytes, written)
      sizeBytes += written
      if (sizeBytes - pausedAt > pauseBytes) {
        // Chunks that come without waiting would keep a request to stop from being heard.
        pausedAt = sizeBytes
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    fsyncSync(file)
    closeSync(file)
    file = null
    renameSync(temporary, path)
    syncPath(dirname(path))
    return { sizeBytes, sha256: hash.digest('hex') }
  } catch (error) {
    if (file !== null) closeSync(file)
    rmSync(temporary, { force: true })
    throw asDiskError(error, path)
  }
}

/** Fills a temporary folder through `fill` and renames it to `path`, which must not exist. On any failure nothing is left. */
export async function writeFolderAtomic<R>(path: string, fill: (folder: string) => Promise<R>): Promise<R> {
  const temporary = temporaryPath(dirname(path))
  try {
    mkdirSync(temporary, { recursive: true })
    const result = await fill(temporary)
    for (const name of readdirSync(temporary)) syncPath(join(temporary, name))
    syncPath(temporary)
    renameSync(temporary, path)
    syncPath(dirname(path))
    return result
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true })
    throw asDiskError(error, path)
  }
}

/** Hexadecimal sha256 of a file's content, read back from the disk; `onBytes` hears of every piece and may throw to end it. */
export async function sha256File(path: string, onBytes: (bytes: number) => void = () => undefined): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    hash.update(chunk as Buffer)
    onBytes((chunk as Buffer).length)
  }
  return hash.digest('hex')
}

/** Copies a file and gives its hash; a file system that can shares the blocks. `onBytes` hears of every piece and may throw to end it. */
export async function copyFileHashed(from: string, to: string, onBytes: (bytes: number) => void = () => undefined): Promise<WrittenFile> {
  try {
    copyFileSync(from, to, constants.COPYFILE_FICLONE_FORCE)
  } catch {
    const chunks = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of createReadStream(from, { highWaterMark: 4 << 20 })) {
        onBytes((chunk as Buffer).length)
        yield chunk as Buffer
      }
    }
    return writeFileAtomic(to, chunks())
  }
  return { sizeBytes: statSync(to).size, sha256: await sha256File(to, onBytes) }
}
