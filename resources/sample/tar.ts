/**
 * Reads the files of an npm tarball in memory. Only regular files come out; links, devices and paths that would leave the archive are
 * refused or skipped, so nothing in a tarball can reach the disk by name. Knows ustar, pax paths and GNU long names.
 */
import { gunzipSync } from 'node:zlib'
import { AppError } from '#core/shared/errors.ts'

/** `path` without the archive's top folder, with forward slashes. */
export type PackedFile = { path: string; bytes: Buffer }

const blockBytes = 512
/** The largest tarball of the sample unpacks to about 40 MB. */
const unpackedLimitBytes = 512 * 1024 * 1024

function damaged(name: string, what: string): AppError {
  return new AppError('archive.damaged', `${name}: ${what}`, { params: { file: name, found: what }, hint: 'Delete the file and fetch it again.' })
}

function text(header: Buffer, start: number, length: number): string {
  const field = header.subarray(start, start + length)
  const end = field.indexOf(0)
  return field.subarray(0, end < 0 ? length : end).toString('utf8')
}

function octal(header: Buffer, start: number, length: number): number {
  const digits = text(header, start, length).trim()
  return /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : NaN
}

/** A header's checksum: the sum of its bytes with the checksum field read as spaces. */
function checksum(header: Buffer): number {
  let sum = 8 * 0x20
  header.forEach((byte, i) => (sum += i >= 148 && i < 156 ? 0 : byte))
  return sum
}

/** The path of a pax extended header ("27 path=some/where\n"), if it has one. */
function paxPath(records: Buffer): string | undefined {
  let at = 0
  while (at < records.length) {
    const space = records.indexOf(0x20, at)
    const length = Number.parseInt(records.toString('utf8', at, space), 10)
    if (space < 0 || !(length > 0)) return undefined
    const record = records.toString('utf8', space + 1, at + length - 1)
    if (record.startsWith('path=')) return record.slice(5)
    at += length
  }
  return undefined
}

/** The path below the top folder; throws when it is not plainly inside. */
function innerPath(name: string, path: string): string {
  const parts = path.split('/')
  if (path.startsWith('/') || /[\\\0]/.test(path) || /^[A-Za-z]:/.test(path) || parts.includes('..')) {
    throw damaged(name, `it holds the path ${JSON.stringify(path)}, which leads out of the archive`)
  }
  return parts.slice(1).join('/')
}

/** The regular files of a gzipped tar; `name` names it in errors. Throws AppError `archive.damaged`. */
export function* readTarball(tarball: Buffer, name: string): Generator<PackedFile> {
  let archive: Buffer
  try {
    archive = gunzipSync(tarball, { maxOutputLength: unpackedLimitBytes })
  } catch (error) {
    throw damaged(name, (error as Error).message)
  }
  let longPath: string | undefined
  let at = 0
  while (at + blockBytes <= archive.length) {
    const header = archive.subarray(at, at + blockBytes)
    if (header.every((byte) => byte === 0)) return
    const size = octal(header, 124, 12)
    if (octal(header, 148, 8) !== checksum(header) || !Number.isSafeInteger(size)) throw damaged(name, `no tar header at byte ${at}`)
    const start = at + blockBytes
    if (start + size > archive.length) throw damaged(name, `it ends at byte ${archive.length}, inside a file of ${size} bytes`)
    const bytes = archive.subarray(start, start + size)
    const type = String.fromCharCode(header[156]!)
    if (type === 'x') longPath = paxPath(bytes) ?? longPath
    else if (type === 'L') longPath = text(bytes, 0, size)
    else {
      const prefix = text(header, 257, 5) === 'ustar' ? text(header, 345, 155) : ''
      const path = longPath ?? (prefix === '' ? text(header, 0, 100) : `${prefix}/${text(header, 0, 100)}`)
      longPath = undefined
      if (type === '0' || type === '\0') yield { path: innerPath(name, path), bytes }
    }
    at = start + Math.ceil(size / blockBytes) * blockBytes
  }
}
