/**
 * The bytes of a source's file, unpacked, chunk by chunk. Holds a few chunks at a time, and holds the file to what it was when it
 * was found: a file that grew, shrank or was written meanwhile is refused at its end, so nothing is built from half of two versions.
 */
import { open } from 'node:fs/promises'
import { pipeline, type Duplex, type Readable } from 'node:stream'
import { createGunzip, createZstdDecompress } from 'node:zlib'
import { asReadError, fileError } from './errors.ts'
import type { SourceFile } from './files.ts'

const chunkBytes = 1 << 18
const magic = { gzip: [0x1f, 0x8b], zstd: [0x28, 0xb5, 0x2f, 0xfd] }

type Stamp = { size: number; mtimeMs: number }

/** Throws source.changed unless the file is still as it was found. */
export function requireUnchanged(file: SourceFile, now: Stamp): void {
  if (now.size === file.sizeBytes && now.mtimeMs === file.modifiedMs) return
  const found = now.size === file.sizeBytes ? 'a file written since' : `${now.size} bytes`
  throw fileError('source.changed', file.name, found, `the ${file.sizeBytes} bytes that were there at first`, 'Something writes to it. Wait until that is finished, then start again.')
}

function startsWith(bytes: Uint8Array, prefix: readonly number[]): boolean {
  return prefix.every((byte, i) => bytes[i] === byte)
}

/** Refuses at the first chunk what is no text at all. */
function requireText(file: SourceFile, chunk: Uint8Array): void {
  const hint = 'Take it out of the source, or name it for what it is.'
  const packed = startsWith(chunk, magic.gzip) ? 'gzip' : startsWith(chunk, magic.zstd) ? 'zstd' : null
  if (packed !== null) throw fileError('source.wrongFormat', file.name, `${packed} data under a name that does not say so`, 'text', `Rename it to end in .${packed === 'gzip' ? 'gz' : 'zst'}.`)
  if (startsWith(chunk, [0xff, 0xfe]) || startsWith(chunk, [0xfe, 0xff])) throw fileError('source.wrongFormat', file.name, 'UTF-16 text', 'UTF-8 text', 'Convert it to UTF-8.')
  if (chunk.includes(0)) throw fileError('source.wrongFormat', file.name, 'a binary file', 'UTF-8 text', hint)
}

async function checkMagic(file: SourceFile, handle: { read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ bytesRead: number }> }): Promise<void> {
  if (file.compression === 'none') return
  const head = Buffer.alloc(4)
  await handle.read(head, 0, 4, 0)
  if (startsWith(head, magic[file.compression])) return
  throw fileError('source.damagedFile', file.name, `bytes ${head.toString('hex')} at the beginning`, `a ${file.compression} archive`, 'The file is damaged or is no archive: download it again, or rename it.')
}

/** Streams the unpacked bytes of `file`. Throws source.emptyFile, source.damagedFile, source.wrongFormat, source.changed, file.unreadable. */
export async function* readBytes(file: SourceFile): AsyncGenerator<Buffer> {
  let stream: Readable | Duplex | null = null
  try {
    const handle = await open(file.path, 'r')
    try {
      requireUnchanged(file, await handle.stat())
      await checkMagic(file, handle)
      const raw = handle.createReadStream({ autoClose: false, start: 0, highWaterMark: chunkBytes })
      const unpack = file.compression === 'gzip' ? createGunzip({ chunkSize: chunkBytes }) : file.compression === 'zstd' ? createZstdDecompress({ chunkSize: chunkBytes }) : null
      stream = unpack === null ? raw : pipeline(raw, unpack, () => undefined)
      let total = 0
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        if (total === 0) requireText(file, chunk)
        total += chunk.length
        file.onRead?.(raw.bytesRead)
        yield chunk
      }
      requireUnchanged(file, await handle.stat())
      if (total === 0) throw fileError('source.emptyFile', file.name, 'no bytes', 'text', 'Take the file out of the source.')
    } finally {
      stream?.destroy()
      await handle.close()
    }
  } catch (error) {
    throw asReadError(error, file.name)
  }
}
