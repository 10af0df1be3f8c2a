/**
 * Files that a browser sends, in pieces and in order, into a folder of the library. A file has its name only when its last piece is
 * there. What no source names (a page that went away) is removed at the next start.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { AppError } from '#core/shared/errors.ts'
import type { Host } from '#core/shared/host.ts'
import { listSources } from '#core/store/sources.ts'
import { listFolders } from '../checkpoints/files.ts'
import type { Services } from '../services.ts'

/** Well below what one message of a socket may have. */
export const pieceBytes = 1 << 20
/** What is left for everything else on the disk. */
const spareBytes = 256 << 20

export const uploadFolder = ({ libraryPath }: Host, uploadId: string): string => join(libraryPath, 'uploads', uploadId)

/** Makes the folder of an upload; gives its id. Throws disk.tooSmall. */
export function beginUpload(host: Host, sizeBytes: number): string {
  const { bavail, bsize } = statfsSync(host.libraryPath)
  const free = bavail * bsize
  if (sizeBytes + spareBytes > free) {
    throw new AppError('disk.tooSmall', `${host.libraryPath}: found ${free} bytes of free space, expected ${sizeBytes + spareBytes}`, {
      params: { file: host.libraryPath, freeBytes: free, neededBytes: sizeBytes + spareBytes },
      hint: 'Free some space, or give the files by their path: then nothing is copied.',
    })
  }
  const uploadId = host.newId()
  mkdirSync(uploadFolder(host, uploadId), { recursive: true })
  return uploadId
}

/** A relative path of plain names; null when it leads elsewhere or is hidden. */
function plainPath(file: string): string | null {
  const parts = file.split('/').filter((part) => part !== '')
  const isPlain = parts.length > 0 && parts.length <= 40 && parts.every((part) => !part.startsWith('.') && !/[\\:\0<>|?*"]/.test(part) && part.length <= 200)
  return isPlain ? join(...parts) : null
}

/** Writes one piece at its place. Throws uploads.notFound, uploads.badName, uploads.tooLarge. */
export function writePiece(host: Host, { uploadId, file, offset, isLast }: { uploadId: string; file: string; offset: number; isLast: boolean }, data: Uint8Array): void {
  const folder = uploadFolder(host, uploadId)
  const name = plainPath(file)
  if (!existsSync(folder)) throw new AppError('uploads.notFound', `There is no upload ${uploadId}`, { params: { id: uploadId }, hint: 'Drop the files again.' })
  if (name === null) throw new AppError('uploads.badName', `The file name ${JSON.stringify(file)} cannot be used`, { params: { file }, hint: 'Rename the file and drop it again.' })
  if (data.length > pieceBytes) throw new AppError('uploads.tooLarge', `found a piece of ${data.length} bytes, expected at most ${pieceBytes}`, { params: { found: data.length, expected: pieceBytes } })
  const part = join(folder, `${name}.part`)
  mkdirSync(dirname(part), { recursive: true })
  const handle = openSync(part, offset === 0 ? 'w' : 'r+')
  try {
    for (let done = 0; done < data.length; ) done += writeSync(handle, data, done, data.length - done, offset + done)
    if (isLast) fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
  if (isLast) renameSync(part, join(folder, name))
}

export function removeUpload(host: Host, uploadId: string): void {
  rmSync(uploadFolder(host, uploadId), { recursive: true, force: true })
}

/** Removes uploads and downloads that no source names. */
export function removeStrayFiles({ host, store }: Pick<Services, 'host' | 'store'>): void {
  const sources = listSources(store)
  const uploads = new Set(sources.flatMap(({ origin }) => (origin.kind === 'upload' ? [origin.uploadId] : [])))
  const downloads = new Set(sources.flatMap(({ id, origin }) => (origin.kind === 'download' ? [id] : [])))
  for (const [kind, named] of [['uploads', uploads], ['downloads', downloads]] as const) {
    const folder = join(host.libraryPath, kind)
    for (const id of listFolders(folder)) if (!named.has(id)) rmSync(join(folder, id), { recursive: true, force: true })
  }
}
