/**
 * Reads the files of a zip archive in memory (stored and deflated entries, no encryption, no zip64): Python's standard library comes as
 * one inside its package. Every entry is held against its CRC; names are never used as paths on the disk.
 */
import { crc32, inflateRawSync } from 'node:zlib'
import { AppError } from '#core/shared/errors.ts'
import type { PackedFile } from './tar.ts'

const entrySignature = 0x02014b50
const localSignature = 0x04034b50
const endSignature = 0x06054b50
const endBytes = 22

function damaged(name: string, what: string): AppError {
  return new AppError('archive.damaged', `${name}: ${what}`, { params: { file: name, found: what }, hint: 'Delete the file and fetch it again.' })
}

/** Where the central directory starts and how many entries it has, from the record at the archive's end. */
function findDirectory(archive: Buffer, name: string): { at: number; entries: number } {
  for (let at = archive.length - endBytes; at >= Math.max(0, archive.length - endBytes - 0xffff); at--) {
    if (archive.readUInt32LE(at) === endSignature) return { at: archive.readUInt32LE(at + 16), entries: archive.readUInt16LE(at + 10) }
  }
  throw damaged(name, 'no zip directory at its end')
}

function readEntry(archive: Buffer, at: number, name: string): { file: PackedFile; next: number } {
  if (archive.readUInt32LE(at) !== entrySignature) throw damaged(name, `no directory entry at byte ${at}`)
  const [method, crc, packedBytes, sizeBytes] = [archive.readUInt16LE(at + 10), archive.readUInt32LE(at + 16), archive.readUInt32LE(at + 20), archive.readUInt32LE(at + 24)]
  const [pathBytes, extraBytes, commentBytes, local] = [archive.readUInt16LE(at + 28), archive.readUInt16LE(at + 30), archive.readUInt16LE(at + 32), archive.readUInt32LE(at + 42)]
  const path = archive.toString('utf8', at + 46, at + 46 + pathBytes)
  if (archive.readUInt32LE(local) !== localSignature) throw damaged(name, `${path} has no header at byte ${local}`)
  const start = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28)
  const packed = archive.subarray(start, start + packedBytes)
  if (method !== 0 && method !== 8) throw damaged(name, `${path} is packed with method ${method}, expected 0 or 8`)
  const bytes = method === 0 ? packed : inflateRawSync(packed, { maxOutputLength: Math.max(1, sizeBytes) })
  if (bytes.length !== sizeBytes || crc32(bytes) !== crc) throw damaged(name, `${path} does not match its checksum`)
  return { file: { path, bytes }, next: at + 46 + pathBytes + extraBytes + commentBytes }
}

/** The files of a zip archive, folders left out; `name` names it in errors. Throws AppError `archive.damaged`. */
export function* readZip(archive: Buffer, name: string): Generator<PackedFile> {
  let { at, entries } = findDirectory(archive, name)
  for (; entries > 0; entries--) {
    let entry
    try {
      entry = readEntry(archive, at, name)
    } catch (error) {
      throw error instanceof AppError ? error : damaged(name, (error as Error).message)
    }
    at = entry.next
    if (!entry.file.path.endsWith('/')) yield entry.file
  }
}
